//! Reads the rows once more, now to send them, and puts them into a bounded channel.
//!
//! Rows whose member takes an email that another gives up come after that one's rows, wherever they stand: their
//! places are kept while the file is read, and they are read again in the order of their depth.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::rules::Rules;
use super::{Events, Job};
use crate::change::{Outcome, fold};
use crate::event::{Before, Event, Finished};
use crate::input::{BadRow, Entry, InputError, Place, Preflight, Row, Rows};
use crate::stop::Stop;

/// Reads rows and sends them on.
#[derive(Debug)]
pub struct Producer {
    /// What the whole file said.
    pub preflight: Arc<Preflight>,
    /// What rows must keep to.
    pub rules: Arc<Rules>,
    /// What earlier pieces of the run did.
    pub before: Before,
    /// Where rows that can't be sent are told.
    pub events: Events,
    /// Ends it early.
    pub stop: Arc<Stop>,
}

impl Producer {
    /// Sends all rows on, or as many as go before the run stops.
    ///
    /// # Errors
    /// If the input, which was read before, can't be read any more.
    pub async fn run(self, mut rows: Rows, jobs: mpsc::Sender<Job>) -> Result<(), InputError> {
        let mut deferred: Vec<(u32, Place)> = Vec::new();
        while let Some((place, entry)) = rows.next_entry()? {
            if self.before.is_done(place.number) {
                continue;
            }
            if self.preflight.relations.has_depths()
                && let Entry::Row(row) = &entry
                && let Some(key) = self.preflight.names.find(&row.key())
                && let depth = self.preflight.relations.depth(key)
                && depth > 0
            {
                deferred.push((depth, place));
                continue;
            }
            if !self.emit(entry, &jobs).await {
                return Ok(());
            }
        }
        deferred.sort_by_key(|(depth, place)| (*depth, place.number));
        for (_, place) in deferred {
            let entry = rows.entry_at(place)?;
            if !self.emit(entry, &jobs).await {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends one on; answers whether there is anybody to send to.
    async fn emit(&self, entry: Entry, jobs: &mpsc::Sender<Job>) -> bool {
        if self.stop.is_raised() {
            return false;
        }
        let row = match entry {
            Entry::Bad(bad) => return self.invalid(bad).await,
            Entry::Row(row) => row,
        };
        let problem = self
            .preflight
            .relations
            .problems
            .get(&row.number)
            .cloned()
            .or_else(|| self.rules.problem(&row));
        if let Some(problem) = problem {
            let Row {
                number,
                line,
                email,
                ..
            } = row;
            return self
                .invalid(BadRow {
                    number,
                    line,
                    email,
                    problem,
                })
                .await;
        }
        // Every key was interned when the whole file was read.
        let Some(key) = self.preflight.names.find(&row.key()) else {
            return true;
        };
        let waits_for = row
            .new_email()
            .and_then(|email| self.preflight.names.find(&fold(&email)))
            .and_then(|email| self.preflight.relations.holder(key, email));
        let prior = self.before.intents.get(&row.number).cloned();
        jobs.send(Job {
            row,
            key,
            waits_for,
            prior,
        })
        .await
        .is_ok()
    }

    async fn invalid(&self, bad: BadRow) -> bool {
        let finished = Finished {
            row: bad.number,
            line: bad.line,
            email: bad.email,
            member_id: None,
            outcome: Outcome::Invalid,
            status: None,
            attempts: 0,
            changes: Arc::default(),
            recorded: false,
            partly: false,
            message: Some(bad.problem),
        };
        self.events.send(Event::Finished(finished)).await.is_ok()
    }
}
