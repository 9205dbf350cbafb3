//! Reads the rows a second time, now to send them, and puts them into a bounded channel.
//!
//! A row whose member takes an email that another member gives up must come after that member's rows, wherever it
//! stands in the file. Such rows are set aside while the file is read, and are read again in the order of their depth
//! (see [`crate::input::relations`]).

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Events, RowTask};
use crate::event::{Event, ResumeState};
use crate::input::{BadRow, Entry, InputError, Preflight, Row, RowPosition, Rows};
use crate::model::{Outcome, RowOutcome, fold};
use crate::stop::Stop;

/// Reads rows and sends them to the scheduler.
#[derive(Debug)]
pub(crate) struct Producer {
    /// What the first pass over the file found.
    pub preflight: Arc<Preflight>,
    /// What earlier sessions of the run did.
    pub resume: ResumeState,
    /// Where rows that can't be read are reported.
    pub events: Events,
    /// Ends the run early.
    pub stop: Arc<Stop>,
}

/// Whether to go on with the next row.
enum Flow {
    Continue,
    Stop,
}

impl Producer {
    /// Sends all rows, or as many as it can before the run stops.
    ///
    /// # Errors
    /// If the input, which was read before, can't be read any more or holds other rows.
    pub(crate) async fn run(
        self,
        mut rows: Rows,
        tasks: mpsc::Sender<RowTask>,
    ) -> Result<(), InputError> {
        let mut deferred: Vec<(u32, RowPosition)> = Vec::new();
        while let Some((position, entry)) = rows.next_entry()? {
            if self.resume.is_done(position.number) {
                continue;
            }
            if self.preflight.relations.has_depths()
                && let Entry::Row(row) = &entry
                && let Some(key) = self.preflight.keys.find(&row.key())
                && let depth = self.preflight.relations.depth(key)
                && depth > 0
            {
                deferred.push((depth, position));
                continue;
            }
            if let Flow::Stop = self.emit(entry, &tasks).await? {
                return Ok(());
            }
        }
        deferred.sort_by_key(|(depth, position)| (*depth, position.number));
        for (_, position) in deferred {
            let entry = rows.entry_at(position)?;
            if let Flow::Stop = self.emit(entry, &tasks).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn emit(&self, entry: Entry, tasks: &mpsc::Sender<RowTask>) -> Result<Flow, InputError> {
        if self.stop.is_raised() {
            return Ok(Flow::Stop);
        }
        let is_sent = match entry {
            Entry::Row(row) => tasks.send(self.task(row)?).await.is_ok(),
            Entry::Bad(bad) => self.events.send(invalid(bad)).await.is_ok(),
        };
        Ok(if is_sent { Flow::Continue } else { Flow::Stop })
    }

    fn task(&self, row: Row) -> Result<RowTask, InputError> {
        let keys = &self.preflight.keys;
        // The first pass interned the key of every row.
        let key = keys
            .find(&row.key())
            .ok_or(InputError::Changed { line: row.line })?;
        let waits_for = row
            .new_email()
            .and_then(|email| keys.find(&fold(&email)))
            .and_then(|email| self.preflight.relations.holder(key, email));
        let prior = self.resume.intents.get(&row.number).cloned();
        Ok(RowTask {
            row,
            key,
            waits_for,
            prior,
        })
    }
}

fn invalid(bad: BadRow) -> Event {
    Event::Finished {
        line: bad.line,
        email: bad.email,
        outcome: RowOutcome::new(bad.number, Outcome::Invalid, Some(bad.problem)),
    }
}
