//! Lets rows go: those of one member one after another, in the file's order; different members at once, up to the
//! concurrency; and one that takes an email after the rows of the member who gives it up.

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

/// At most so many rows wait for another row; then none is taken until one has ended. A file with all rows of a
/// member together would be read into memory without it. Nobody starves: a row waits only for rows that were taken
/// before it.
const MOST_WAITING: usize = 1024;

/// A member whose rows are under way.
#[derive(Debug, Default)]
struct Active {
    /// Its further rows.
    queue: VecDeque<RowTask>,
    /// Rows of other members that take its email.
    waiters: Vec<RowTask>,
}

/// Which rows may go; knows nothing of what a row does.
#[derive(Debug, Default)]
struct Order {
    active: HashMap<KeyId, Active>,
    waiting: usize,
}

impl Order {
    /// Takes a row in; it comes back if it may go at once.
    fn admit(&mut self, task: RowTask) -> Option<RowTask> {
        if let Some(active) = self.active.get_mut(&task.key) {
            active.queue.push_back(task);
            self.waiting += 1;
            return None;
        }
        self.active.insert(task.key, Active::default());
        self.start(task)
    }

    /// Lets a row of a member that is active already go, unless it waits for another member.
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

    /// A row of this member has ended: the rows that may go now.
    fn ended(&mut self, key: KeyId, go: &mut VecDeque<RowTask>) {
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
pub(crate) async fn run(
    mut tasks: mpsc::Receiver<RowTask>,
    worker: Arc<Worker>,
    concurrency: usize,
) {
    let mut order = Order::default();
    let mut go: VecDeque<RowTask> = VecDeque::new();
    let mut under_way = FuturesUnordered::new();
    let mut open = true;
    loop {
        while under_way.len() < concurrency
            && let Some(task) = go.pop_front()
        {
            under_way.push(one(Arc::clone(&worker), task));
        }
        let takes = open && under_way.len() < concurrency && order.waiting < MOST_WAITING;
        tokio::select! {
            biased;
            Some(key) = under_way.next() => order.ended(key, &mut go),
            task = tasks.recv(), if takes => match task {
                Some(task) => go.extend(order.admit(task)),
                None => open = false,
            },
            else => break,
        }
    }
}

/// One row; a panic in it is its outcome and nobody else's.
async fn one(worker: Arc<Worker>, task: RowTask) -> KeyId {
    // A span costs nothing unless somebody listens. No email in it: logs are kept by others.
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

    #[test]
    fn one_row_a_member_in_order_and_takers_after_givers() {
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
