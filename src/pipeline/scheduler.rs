//! Lets rows go: those of one member one after another, in the file's order; different members at once, up to the
//! concurrency; and one that takes an email after the rows of the member who gives it up.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use hashbrown::HashMap;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::Job;
use super::worker::Worker;
use crate::input::NameId;

/// At most so many rows wait for another row; then none is taken until one has ended. A file with all rows of a
/// member together would be read into memory without it. Nobody starves: a row waits only for rows that were taken
/// before it.
const MOST_WAITING: usize = 1024;

/// A member whose rows are under way.
#[derive(Debug, Default)]
struct Active {
    /// Its further rows.
    queue: VecDeque<Job>,
    /// Rows of other members that take its email.
    waiters: Vec<Job>,
}

/// Which rows may go; knows nothing of what a row does.
#[derive(Debug, Default)]
struct Order {
    active: HashMap<NameId, Active>,
    waiting: usize,
}

impl Order {
    /// Takes a row in; it comes back if it may go at once.
    fn admit(&mut self, job: Job) -> Option<Job> {
        if let Some(active) = self.active.get_mut(&job.key) {
            active.queue.push_back(job);
            self.waiting += 1;
            return None;
        }
        self.active.insert(job.key, Active::default());
        self.start(job)
    }

    /// Lets a row of a member that is active already go, unless it waits for another member.
    fn start(&mut self, job: Job) -> Option<Job> {
        match job
            .waits_for
            .and_then(|holder| self.active.get_mut(&holder))
        {
            Some(holder) => {
                holder.waiters.push(job);
                self.waiting += 1;
                None
            }
            None => Some(job),
        }
    }

    /// A row of this member has ended: the rows that may go now.
    fn ended(&mut self, key: NameId, go: &mut VecDeque<Job>) {
        let Some(active) = self.active.get_mut(&key) else {
            return;
        };
        if let Some(next) = active.queue.pop_front() {
            self.waiting -= 1;
            go.extend(self.start(next));
            return;
        }
        let waiters = std::mem::take(&mut active.waiters);
        self.active.remove(&key);
        self.waiting -= waiters.len();
        for waiter in waiters {
            go.extend(self.start(waiter));
        }
    }
}

/// Brings all rows to their outcomes, at most `concurrency` at once, until the channel is closed.
pub async fn run(mut jobs: mpsc::Receiver<Job>, worker: Arc<Worker>, concurrency: usize) {
    let mut order = Order::default();
    let mut go: VecDeque<Job> = VecDeque::new();
    let mut under_way = FuturesUnordered::new();
    let mut open = true;
    loop {
        while under_way.len() < concurrency
            && let Some(job) = go.pop_front()
        {
            under_way.push(one(Arc::clone(&worker), job));
        }
        let takes = open && under_way.len() < concurrency && order.waiting < MOST_WAITING;
        tokio::select! {
            biased;
            Some(key) = under_way.next() => order.ended(key, &mut go),
            job = jobs.recv(), if takes => match job {
                Some(job) => go.extend(order.admit(job)),
                None => open = false,
            },
            else => break,
        }
    }
}

/// One row; a panic in it is its outcome and nobody else's.
async fn one(worker: Arc<Worker>, job: Job) -> NameId {
    // A span costs nothing unless somebody listens. No email in it: logs are kept by others.
    let span = tracing::info_span!("row", row = job.row.number, line = job.row.line);
    let work = worker.run(&job).instrument(span);
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        worker.panicked(&job.row).await;
    }
    job.key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Values;
    use crate::input::{Ask, Names, Row};

    fn job(names: &mut Names, number: u32, member: &str, waits_for: Option<&str>) -> Job {
        Job {
            row: Row {
                number,
                line: 0,
                email: member.into(),
                ask: Ask::Wanted(Values::default()),
                trimmed: 0,
            },
            key: names.intern(member).expect("few names"),
            waits_for: waits_for.and_then(|holder| names.intern(holder)),
            prior: None,
        }
    }

    #[test]
    fn one_row_a_member_in_order_and_takers_after_givers() {
        let mut names = Names::default();
        let mut order = Order::default();
        let jobs = [
            ("a", None),
            ("a", None),
            ("b", Some("a")),
            ("c", Some("b")),
            ("d", None),
        ];
        let mut started = Vec::new();
        let mut running = VecDeque::new();
        for (number, (member, waits_for)) in (1..).zip(jobs) {
            running.extend(order.admit(job(&mut names, number, member, waits_for)));
        }
        assert_eq!(order.waiting, 3);
        while let Some(job) = running.pop_front() {
            started.push(job.row.number);
            order.ended(job.key, &mut running);
        }
        assert_eq!(started, [1, 5, 2, 3, 4]);
        assert_eq!(order.waiting, 0);
        assert!(order.active.is_empty());
    }
}
