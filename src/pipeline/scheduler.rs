//! Decides which rows may start. The rows of one member start one after another, in the order of the file. Different
//! members go in parallel, up to the concurrency. A row that takes an email starts after the rows of the member that
//! gives it up.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use std::collections::HashMap;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::RowTask;
use super::worker::Worker;
use crate::input::KeyId;

/// The number of rows that may wait for another row. Then no row is taken until one has ended, because a file with all
/// rows of a member together would otherwise be read into memory. No row waits forever: a row waits only for rows that were
/// taken before it, and rows that wait for each other are released.
const MOST_WAITING: usize = 1024;

/// A member of whom a row is in progress.
#[derive(Debug, Default)]
struct Active {
    /// Further rows of the member.
    queue: VecDeque<RowTask>,
    /// Rows of other members that take the member's email.
    waiters: Vec<RowTask>,
}

/// Which rows may start. It does not know what a row does.
#[derive(Debug, Default)]
struct Order {
    active: HashMap<KeyId, Active>,
    waiting: usize,
}

impl Order {
    /// Takes a row, and returns it if it may start at once.
    fn admit(&mut self, task: RowTask) -> Option<RowTask> {
        if let Some(active) = self.active.get_mut(&task.key) {
            active.queue.push_back(task);
            self.waiting += 1;
            return None;
        }
        self.active.insert(task.key, Active::default());
        self.start(task)
    }

    /// Returns a row of an active member if it may start, or keeps it if it waits for another member.
    fn start(&mut self, task: RowTask) -> Option<RowTask> {
        match task
            .waits_for
            .and_then(|holder| self.active.get_mut(&holder))
        {
            Some(holder) => {
                holder.waiters.push(task);
                self.waiting += 1;
                None
            }
            None => Some(task),
        }
    }

    /// Records that a row of this member has ended, and adds the rows that may start now to `ready`.
    fn ended(&mut self, key: KeyId, ready: &mut VecDeque<RowTask>) {
        let Some(active) = self.active.get_mut(&key) else {
            return;
        };
        if let Some(next) = active.queue.pop_front() {
            self.waiting -= 1;
            ready.extend(self.start(next));
            return;
        }
        let waiters = std::mem::take(&mut active.waiters);
        self.active.remove(&key);
        self.waiting -= waiters.len();
        for waiter in waiters {
            ready.extend(self.start(waiter));
        }
    }
}

impl Order {
    /// Lets all rows go that wait for another member, and returns how many these are.
    fn release_waiters(&mut self, ready: &mut VecDeque<RowTask>) -> usize {
        let before = ready.len();
        for active in self.active.values_mut() {
            ready.extend(active.waiters.drain(..));
        }
        let released = ready.len() - before;
        self.waiting -= released;
        released
    }
}

/// Runs all rows, at most `concurrency` at once, until the channel is closed.
pub(crate) async fn run(
    mut tasks: mpsc::Receiver<RowTask>,
    worker: Arc<Worker>,
    concurrency: usize,
) {
    let mut order = Order::default();
    let mut ready: VecDeque<RowTask> = VecDeque::new();
    let mut running = FuturesUnordered::new();
    let mut open = true;
    loop {
        while running.len() < concurrency
            && let Some(task) = ready.pop_front()
        {
            running.push(run_one(Arc::clone(&worker), task));
        }
        let takes = open && running.len() < concurrency && order.waiting < MOST_WAITING;
        tokio::select! {
            biased;
            Some(key) = running.next() => order.ended(key, &mut ready),
            task = tasks.recv(), if takes => match task {
                Some(task) => ready.extend(order.admit(task)),
                None => open = false,
            },
            // Nothing runs, and no row is taken. Rows that wait for each other, which only rows that contradict another one
            // can do, go on without waiting.
            else => if order.release_waiters(&mut ready) == 0 {
                break;
            },
        }
    }
}

/// Runs one row. A panic ends this row alone.
async fn run_one(worker: Arc<Worker>, task: RowTask) -> KeyId {
    // A span costs nothing unless the log is on. It has no email, because others may read the log.
    let span = tracing::info_span!("row", row = task.row.number, line = task.row.line);
    let work = worker.run(&task).instrument(span);
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        worker.report_panic(&task.row).await;
    }
    task.key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{KeyTable, Row, RowRequest};
    use crate::model::Values;

    fn task(keys: &mut KeyTable, number: u32, member: &str, waits_for: Option<&str>) -> RowTask {
        RowTask {
            row: Row {
                number,
                line: 0,
                email: member.into(),
                request: RowRequest::Desired(Values::default()),
                trimmed: 0,
            },
            key: keys.intern(member).expect("few keys"),
            waits_for: waits_for.and_then(|holder| keys.intern(holder)),
            prior: None,
        }
    }

    /// Two members whose rows wait for each other.
    #[test]
    fn rows_that_wait_for_each_other_are_released() {
        let mut keys = KeyTable::default();
        let mut order = Order::default();
        let mut ready = VecDeque::new();
        for (number, member, holder) in [(1, "b", None), (2, "a", Some("b")), (3, "b", Some("a"))] {
            ready.extend(order.admit(task(&mut keys, number, member, holder)));
        }
        let first = ready.pop_front().expect("the first row starts");
        order.ended(first.key, &mut ready);
        assert!(ready.is_empty() && order.waiting == 2);
        assert_eq!(order.release_waiters(&mut ready), 2);
        let mut ended = Vec::new();
        while let Some(task) = ready.pop_front() {
            ended.push(task.row.number);
            order.ended(task.key, &mut ready);
        }
        ended.sort_unstable();
        assert_eq!(ended, [2, 3]);
        assert_eq!((order.waiting, order.active.len()), (0, 0));
    }

    #[test]
    fn rows_start_in_order_and_after_the_email_is_free() {
        let mut keys = KeyTable::default();
        let mut order = Order::default();
        let tasks = [
            ("a", None),
            ("a", None),
            ("b", Some("a")),
            ("c", Some("b")),
            ("d", None),
        ];
        let mut started = Vec::new();
        let mut running = VecDeque::new();
        for (number, (member, waits_for)) in (1..).zip(tasks) {
            running.extend(order.admit(task(&mut keys, number, member, waits_for)));
        }
        assert_eq!(order.waiting, 3);
        while let Some(task) = running.pop_front() {
            started.push(task.row.number);
            order.ended(task.key, &mut running);
        }
        assert_eq!(started, [1, 5, 2, 3, 4]);
        assert_eq!(order.waiting, 0);
        assert!(order.active.is_empty());
    }
}
