//! The reporter: one task that hears what happens, records it, and shows it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::files::describe;
use super::journal::{Journal, Record, SYNC_EVERY, Sent};
use super::preview::Preview;
use super::progress::{Progress, Vitals};
use crate::change::Outcome;
use crate::event::{Event, Finished};
use crate::gateway::Gateway;
use crate::output::{Output, Plain, shortened};
use crate::stop::{Stop, StopReason};

/// Failures that are shown as they happen.
const FAILURES_SHOWN: u64 = 20;
/// Events taken at once: they are recorded in one write.
const BATCH: usize = 256;
/// The bar's pulse; half of [`SYNC_EVERY`], so that a line is never older than that when it is synced.
const TICK: Duration = Duration::from_millis(100);

/// What to show.
#[derive(Clone, Copy, Debug)]
pub struct ReporterOptions {
    /// Every row's outcome.
    pub verbose: bool,
    /// No failures as they happen.
    pub quiet: bool,
}

/// Hears, records, shows.
#[derive(Debug)]
pub struct Reporter {
    /// The journal.
    pub journal: Journal,
    /// The bar.
    pub progress: Progress,
    /// The dry run's preview.
    pub preview: Preview,
    /// Where to show.
    pub output: Output,
    /// What to show.
    pub options: ReporterOptions,
    /// What was sent, and how fast it may go: shown, never used.
    pub gateway: Arc<Gateway>,
    /// Raised if something can't be recorded.
    pub stop: Arc<Stop>,
    /// When this piece of the run began.
    pub began: Instant,
}

/// Intents that are recorded.
#[derive(Default)]
struct Recorded {
    /// Who waits to send them.
    senders: Vec<oneshot::Sender<()>>,
    /// Whether any of them gives a member another email.
    renames: bool,
}

/// What is left when all is told.
#[derive(Debug)]
pub struct Told {
    /// The journal, whole.
    pub journal: Journal,
    /// The dry run's preview.
    pub preview: Preview,
    /// What was sent, also if that could not be recorded.
    pub sent: Sent,
    /// Why something could not be recorded.
    pub trouble: Option<std::io::Error>,
}

impl Told {
    /// Of a run that was stopped before there was anything to tell but what was sent.
    #[must_use]
    pub fn nothing(mut journal: Journal, sent: Sent) -> Self {
        let recorded = journal.add_now(&Record::Sent(sent.clone()));
        Self {
            journal,
            preview: Preview::default(),
            sent,
            trouble: recorded.err(),
        }
    }
}

impl Reporter {
    /// Works until nobody tells any more.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>) -> Told {
        let mut batch = Vec::with_capacity(BATCH);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut syncing: Option<JoinHandle<std::io::Result<()>>> = None;
        let mut last_sync = Instant::now();
        let mut trouble: Option<std::io::Error> = None;
        let mut failures = 0;
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => {
                    self.tick();
                    if let Some(task) = syncing.take_if(|task| task.is_finished())
                        && let Ok(Err(error)) = task.await
                    {
                        self.give_up(&mut trouble, error);
                    }
                    if syncing.is_none()
                        && trouble.is_none()
                        && self.journal.is_dirty()
                        && last_sync.elapsed() + TICK >= SYNC_EVERY
                    {
                        last_sync = Instant::now();
                        match self.lines_to_sync() {
                            // A sync may take long, and the rows go on meanwhile.
                            Ok(Some(file)) => {
                                syncing = Some(tokio::task::spawn_blocking(move || file.sync_data()));
                            }
                            Ok(None) => {}
                            Err(error) => self.give_up(&mut trouble, error),
                        }
                    }
                }
                count = events.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    // Whoever else is ready goes first: what they tell is recorded in the same write.
                    yield_now().await;
                    while batch.len() < BATCH && let Ok(event) = events.try_recv() {
                        batch.push(event);
                    }
                    let mut recorded = self.hear(&mut batch, &mut failures, &mut trouble);
                    // After a power cut, a rename that nobody knows of would make its email another member's.
                    if recorded.renames
                        && let Some(file) = self.journal.to_sync()
                        && let Ok(Err(error)) =
                            tokio::task::spawn_blocking(move || file.sync_data()).await
                    {
                        recorded.senders.clear();
                        self.give_up(&mut trouble, error);
                    }
                    for sender in recorded.senders {
                        let _ = sender.send(());
                    }
                }
            }
        }
        if let Some(task) = syncing
            && let Ok(Err(error)) = task.await
        {
            self.give_up(&mut trouble, error);
        }
        let sent = self.sent();
        if trouble.is_none()
            && let Err(error) = self.journal.add_now(&Record::Sent(sent.clone()))
        {
            self.give_up(&mut trouble, error);
        }
        self.progress.finish();
        if failures > FAILURES_SHOWN && !self.options.quiet && !self.options.verbose {
            self.output.note(format_args!(
                "… and {} more failures",
                failures - FAILURES_SHOWN
            ));
        }
        Told {
            journal: self.journal,
            preview: self.preview,
            sent,
            trouble,
        }
    }

    /// Records what was told in one write, shows it, and answers what may be sent.
    fn hear(
        &mut self,
        batch: &mut Vec<Event>,
        failures: &mut u64,
        trouble: &mut Option<std::io::Error>,
    ) -> Recorded {
        let mut recorded = Recorded::default();
        for event in batch.drain(..) {
            let record = match event {
                Event::Intent(intent, sender) => {
                    recorded.senders.push(sender);
                    recorded.renames |= intent.is_rename();
                    Some(Record::Intent(intent))
                }
                Event::Finished(finished) => {
                    self.show(&finished, failures);
                    Some(Record::from(finished))
                }
                Event::Abandoned { row, withdraws } => withdraws.then_some(Record::Abandoned(row)),
            };
            if trouble.is_none()
                && let Some(record) = record
                && let Err(error) = self.journal.add(&record)
            {
                self.give_up(trouble, error);
            }
        }
        if trouble.is_none()
            && let Err(error) = self.journal.write()
        {
            self.give_up(trouble, error);
        }
        // What is not recorded is not sent: the senders are dropped.
        if trouble.is_some() {
            recorded = Recorded::default();
        }
        recorded
    }

    /// The journal's file, with what was sent so far: a run that is killed has its requests counted.
    fn lines_to_sync(&mut self) -> std::io::Result<Option<Arc<std::fs::File>>> {
        self.journal.add(&Record::Sent(self.sent()))?;
        self.journal.write()?;
        Ok(self.journal.to_sync())
    }

    fn give_up(&self, trouble: &mut Option<std::io::Error>, error: std::io::Error) {
        tracing::error!(%error, "the journal can't be written: the run stops");
        self.stop.raise(StopReason::Recording);
        trouble.get_or_insert(error);
    }

    fn tick(&mut self) {
        let pacer = self.gateway.pacer();
        self.progress.tick(&Vitals {
            retries: self.gateway.stats().retries(),
            rate: pacer.rate(),
            at_once: pacer.lowered_to(),
            paused: pacer.paused_for(),
        });
        if self.output.is_closed() {
            self.stop.raise(StopReason::Hangup);
        }
    }

    fn sent(&self) -> Sent {
        Sent::of(self.gateway.stats(), self.began)
    }

    fn show(&mut self, row: &Finished, failures: &mut u64) {
        let failed = !row.outcome.is_success();
        self.progress.row(failed);
        if row.outcome == Outcome::WouldUpdate {
            self.preview.add(row);
        }
        if failed {
            *failures += 1;
        }
        let shown =
            self.options.verbose || (failed && *failures <= FAILURES_SHOWN && !self.options.quiet);
        if !shown {
            return;
        }
        let mut changes = String::new();
        if self.options.verbose {
            describe(&row.changes, &mut changes);
        }
        let message = row.message.as_deref().unwrap_or_default();
        let gap = if changes.is_empty() || message.is_empty() {
            ""
        } else {
            "; "
        };
        let line = format!(
            "{:13} line {}  {}  {changes}{gap}{message}",
            row.outcome,
            row.line,
            shortened(&row.email)
        );
        self.output.note(Plain(line.trim_end()));
    }
}
