//! The reporter: one task that receives the events of a run, records them in the journal, and shows them.
//!
//! ```text
//!  events ──► batch ──► one write to the journal ──► intents released to their workers
//!                │              │
//!                ▼              └──► every 200 ms: sync to the disk (before a rename is released: at once)
//!          bar, failures
//! ```

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::progress::{ProgressDisplay, RateStatus};
use super::story::Story;
use crate::event::Event;
use crate::model::{Change, Outcome, RowOutcome};
use crate::output::{Output, Plain, grouped, shortened};
use crate::stop::{Stop, StopReason};
use crate::store::journal::{Journal, Record, RequestTotals, SYNC_EVERY, Sample};

/// The number of failures that are shown as they happen.
const FAILURES_SHOWN: u64 = 20;
/// So many rows without a member, and none with one, are a sign of the wrong organization.
const NOBODY_FOUND: u64 = 10;
/// The number of events that are recorded in one write.
const BATCH: usize = 256;
/// How often the display is updated. It is half of [`SYNC_EVERY`], so that no line is older than that when it is synced.
const TICK: Duration = Duration::from_millis(100);
/// How often a sample for the charts of a report is recorded.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// What to show.
#[derive(Clone, Debug)]
pub(crate) struct ReporterOptions {
    /// Whether every row's outcome is shown.
    pub verbose: bool,
    /// Whether failures are not shown as they happen.
    pub quiet: bool,
    /// The organization and its host.
    pub place: String,
}

/// The state of the requests of this session. The reporter shows and records it, and never changes it.
pub(crate) trait RequestMonitor: Debug + Send {
    /// Returns the rate limit and the pause in force.
    fn rate_status(&self) -> RateStatus;
    /// Returns what this session has sent so far.
    fn totals(&self) -> RequestTotals;
    /// Returns how long answers took since this was asked last, if there were any.
    fn latency(&self) -> Option<Latency>;
}

/// How long answers took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Latency {
    /// The median, in milliseconds.
    pub median_ms: f64,
    /// What 95% of them did not exceed, in milliseconds.
    pub p95_ms: f64,
}

/// Records and shows what happens.
#[derive(Debug)]
pub(crate) struct Reporter {
    /// The journal.
    pub journal: Journal,
    /// The progress display.
    pub progress: ProgressDisplay,
    /// Where lines are shown.
    pub output: Output,
    /// Tells the log and other programs what happens.
    pub story: Story,
    /// What to show.
    pub options: ReporterOptions,
    /// The state of the requests.
    pub monitor: Box<dyn RequestMonitor>,
    /// Raised if something can't be recorded.
    pub stop: Arc<Stop>,
}

/// Intents that are recorded.
#[derive(Default)]
struct Recorded {
    /// The workers that wait to send them.
    senders: Vec<oneshot::Sender<()>>,
    /// Whether any of them gives a member another email.
    has_rename: bool,
}

/// What the reporter leaves when the last event was recorded.
#[derive(Debug)]
pub(crate) struct ReporterOutput {
    /// The journal.
    pub journal: Journal,
    /// What this session has sent, even if that could not be recorded.
    pub totals: RequestTotals,
    /// Why something could not be recorded.
    pub error: Option<io::Error>,
}

impl ReporterOutput {
    /// Returns the output of a session that was stopped before its first row.
    pub(crate) fn without_rows(mut journal: Journal, totals: RequestTotals) -> Self {
        let recorded = journal.add_now(&Record::Totals(totals.clone()));
        Self {
            journal,
            totals,
            error: recorded.err(),
        }
    }
}

/// What changes while the reporter runs.
#[derive(Default)]
struct Progressing {
    failures: u64,
    /// Rows whose member does not exist, as long as no member was found.
    not_found: Option<u64>,
    error: Option<io::Error>,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl Reporter {
    /// Records and shows events until the channel is closed.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>) -> ReporterOutput {
        let mut batch = Vec::with_capacity(BATCH);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut state = Progressing {
            not_found: Some(0),
            ..Progressing::default()
        };
        let (mut last_sync, mut last_sample) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => {
                    self.tick(&mut state, &mut last_sample);
                    self.sync_if_due(&mut state, &mut last_sync).await;
                }
                count = events.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    // Other tasks that are ready go first, so that their events are part of the same write.
                    yield_now().await;
                    while batch.len() < BATCH && let Ok(event) = events.try_recv() {
                        batch.push(event);
                    }
                    let recorded = self.record(&mut batch, &mut state);
                    self.release(recorded, &mut state).await;
                }
            }
        }
        self.finish(state).await
    }

    /// Syncs the journal to the disk if that is due and no sync is running.
    async fn sync_if_due(&mut self, state: &mut Progressing, last_sync: &mut Instant) {
        if let Some(task) = state.syncing.take_if(|task| task.is_finished())
            && let Ok(Err(error)) = task.await
        {
            self.fail(state, error);
        }
        let is_due = state.syncing.is_none()
            && state.error.is_none()
            && last_sync.elapsed() + TICK >= SYNC_EVERY;
        if !is_due {
            return;
        }
        *last_sync = Instant::now();
        if let Err(error) = self.journal.check_place() {
            return self.fail(state, error);
        }
        if !self.journal.is_dirty() {
            return;
        }
        match self.write_totals() {
            // A sync may take long, and the rows go on meanwhile.
            Ok(Some(file)) => state.syncing = Some(spawn_blocking(move || file.sync_data())),
            Ok(None) => {}
            Err(error) => self.fail(state, error),
        }
    }

    /// Writes what was sent so far, so that the requests of a run that is killed are counted. Returns the file to sync.
    fn write_totals(&mut self) -> io::Result<Option<Arc<std::fs::File>>> {
        self.journal.add(&Record::Totals(self.monitor.totals()))?;
        self.journal.write()?;
        Ok(self.journal.take_dirty_file())
    }

    /// Records a batch of events in one write, shows them, and returns the intents that may be sent.
    fn record(&mut self, batch: &mut Vec<Event>, state: &mut Progressing) -> Recorded {
        let mut recorded = Recorded::default();
        for event in batch.drain(..) {
            let record = match event {
                Event::Intent(intent, sender) => {
                    recorded.senders.push(sender);
                    recorded.has_rename |= intent.rename().is_some();
                    Some(Record::Intent(intent))
                }
                Event::Finished {
                    line,
                    email,
                    mut outcome,
                } => {
                    self.show(line, &email, &outcome, state);
                    // The changes that were sent are in the intent already.
                    if outcome.outcome != Outcome::WouldUpdate {
                        outcome.changes = Arc::default();
                    }
                    Some(Record::Outcome(outcome))
                }
                Event::Abandoned { row, withdraws } => withdraws.then_some(Record::Abandoned(row)),
            };
            if state.error.is_none()
                && let Some(record) = record
                && let Err(error) = self.journal.add(&record)
            {
                self.fail(state, error);
            }
        }
        if state.error.is_none()
            && let Err(error) = self.journal.write()
        {
            self.fail(state, error);
        }
        // Nothing is sent that is not recorded: the senders are dropped.
        if state.error.is_some() {
            recorded = Recorded::default();
        }
        recorded
    }

    /// Lets the workers send what is recorded.
    async fn release(&mut self, mut recorded: Recorded, state: &mut Progressing) {
        // After a power cut, a rename that is not on the disk would make its old email name another member.
        if recorded.has_rename
            && let Some(file) = self.journal.take_dirty_file()
            && let Ok(Err(error)) = spawn_blocking(move || file.sync_data()).await
        {
            recorded.senders.clear();
            self.fail(state, error);
        }
        for sender in recorded.senders {
            let _ = sender.send(());
        }
    }

    async fn finish(mut self, mut state: Progressing) -> ReporterOutput {
        if let Some(task) = state.syncing.take()
            && let Ok(Err(error)) = task.await
        {
            self.fail(&mut state, error);
        }
        if state.error.is_none()
            && let Err(error) = self.sample(&self.monitor.rate_status())
        {
            self.fail(&mut state, error);
        }
        let totals = self.monitor.totals();
        if state.error.is_none()
            && let Err(error) = (self.journal.add_now(&Record::Totals(totals.clone())))
                .and_then(|()| self.journal.check_place())
        {
            self.fail(&mut state, error);
        }
        self.progress.finish();
        if state.failures > FAILURES_SHOWN && !self.options.quiet && !self.options.verbose {
            let more = state.failures - FAILURES_SHOWN;
            self.output
                .event(format_args!("… and {} more failures", grouped(more)));
        }
        ReporterOutput {
            journal: self.journal,
            totals,
            error: state.error,
        }
    }

    fn fail(&self, state: &mut Progressing, error: io::Error) {
        tracing::error!(%error, "the journal can't be written: the run stops");
        self.stop.raise(StopReason::Recording);
        state.error.get_or_insert(error);
    }

    fn tick(&mut self, state: &mut Progressing, last_sample: &mut Instant) {
        let status = self.monitor.rate_status();
        self.story.tick(&status);
        self.progress.tick(&status);
        if last_sample.elapsed() >= SAMPLE_EVERY && state.error.is_none() {
            *last_sample = Instant::now();
            if let Err(error) = self.sample(&status) {
                self.fail(state, error);
            }
        }
        if self.output.is_closed() {
            self.stop.raise(StopReason::Hangup);
        }
    }

    /// Records what the session is doing, for the charts of a report.
    fn sample(&mut self, status: &RateStatus) -> io::Result<()> {
        let (rows, failed) = self.progress.counts();
        let totals = self.monitor.totals();
        let latency = self.monitor.latency();
        let sample = Sample {
            seconds: (totals.seconds * 10.0).round() / 10.0,
            rows,
            failed,
            requests: totals.requests,
            rate: status.rate.map(|rate| (rate * 10.0).round() / 10.0),
            median_ms: latency.map(|latency| latency.median_ms),
            p95_ms: latency.map(|latency| latency.p95_ms),
            paused: status.paused.is_some() || status.outage.is_some(),
        };
        self.story.progress(&sample, self.progress.total());
        self.journal.add(&Record::Sample(sample))?;
        self.journal.write()
    }

    /// Asks whether it is the right organization if none of the first rows has a member in it.
    fn doubt_the_organization(&self, row: &RowOutcome, state: &mut Progressing) {
        let Some(not_found) = &mut state.not_found else {
            return;
        };
        match row.outcome {
            Outcome::NotFound => *not_found += 1,
            Outcome::Invalid | Outcome::Empty => return,
            _ => state.not_found = None,
        }
        if state.not_found == Some(NOBODY_FOUND) && !self.options.quiet {
            self.output.note(Plain(format!(
                "warning: none of the first {NOBODY_FOUND} members exists in {}: is this the right organization?",
                self.options.place
            )));
        }
    }

    fn show(&mut self, line: u64, email: &str, row: &RowOutcome, state: &mut Progressing) {
        self.story.row_ended(line, email, row);
        let is_failed = !row.outcome.is_success();
        self.progress.row(is_failed);
        if is_failed {
            state.failures += 1;
        }
        self.doubt_the_organization(row, state);
        let is_shown = self.options.verbose
            || (is_failed && state.failures <= FAILURES_SHOWN && !self.options.quiet);
        if !is_shown {
            return;
        }
        let mut changes = String::new();
        if self.options.verbose {
            Change::describe_all(&row.changes, row.owner.as_deref(), &mut changes);
        }
        let message = row.message();
        let gap = if changes.is_empty() || message.is_empty() {
            ""
        } else {
            "; "
        };
        let text = format!(
            "{:13} line {line}  {}  {changes}{gap}{message}",
            row.outcome,
            shortened(email)
        );
        self.output.event(Plain(text.trim_end()));
    }
}
