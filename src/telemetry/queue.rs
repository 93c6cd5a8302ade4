//! Hands finished log lines from many threads to one that writes them, without ever making the former wait.
//!
//! ```text
//! push ──> pending bytes (bounded) ──[ at once when idle, then at most every 10 ms ]──> writer thread ──> sink
//!            └── full: the line is dropped and counted, and the writer says so in a line of its own
//! ```
//!
//! A slow or dead sink (a full pipe, a stopped terminal) therefore costs log lines, never requests.

use parking_lot::{Condvar, Mutex};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How much may wait for the writer.
const CAPACITY: usize = 4 << 20;
/// Lines that come in quick succession are written together, after this pause or this many bytes.
const BATCH_PAUSE: Duration = Duration::from_millis(10);
const BATCH_BYTES: usize = 64 << 10;

/// The bounded queue of lines.
pub(super) struct Queue {
    state: Mutex<State>,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes those who flush.
    written: Condvar,
    dropped: AtomicU64,
    capacity: usize,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// Lines in `bytes`.
    lines: u64,
    /// Lines ever taken in, and of these the ones that the writer is done with.
    pushed: u64,
    done: u64,
    writer: Writer,
    /// How many callers wait in [`Queue::flush`].
    flushing: usize,
    closed: bool,
}

/// What the writer thread is doing, so that it is woken only when that is of use.
#[derive(Default, PartialEq, Eq)]
enum Writer {
    /// It sleeps until there is a line.
    #[default]
    Idle,
    /// It has seen a line and gives others the time to join it.
    Batching,
    /// It has taken the lines and is writing them.
    Writing,
}

impl Queue {
    /// Starts the writer thread. It ends after [`Queue::close`], once everything is written.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        sink: Box<dyn Write + Send>,
        drop_notice: impl Fn(&mut Vec<u8>, u64) + Send + 'static,
    ) -> std::io::Result<Arc<Self>> {
        Self::with_capacity(CAPACITY, sink, drop_notice)
    }

    fn with_capacity(
        capacity: usize,
        sink: Box<dyn Write + Send>,
        drop_notice: impl Fn(&mut Vec<u8>, u64) + Send + 'static,
    ) -> std::io::Result<Arc<Self>> {
        let queue = Arc::new(Self {
            state: Mutex::default(),
            work: Condvar::new(),
            written: Condvar::new(),
            dropped: AtomicU64::new(0),
            capacity,
        });
        let writer = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.write_all_to(sink, drop_notice))?;
        Ok(queue)
    }

    /// Takes in one line, or drops and counts it when too much is waiting. Never blocks on the sink.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        if state.closed || state.bytes.len() + line.len() > self.capacity {
            drop(state);
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        let before = state.bytes.len();
        state.bytes.extend_from_slice(line);
        state.lines += 1;
        state.pushed += 1;
        let wake = match state.writer {
            Writer::Idle => true,
            Writer::Batching => before < BATCH_BYTES && state.bytes.len() >= BATCH_BYTES,
            Writer::Writing => false,
        };
        if wake {
            // It counts as woken from here on, so that the next push does not wake it again.
            state.writer = Writer::Batching;
            drop(state);
            self.work.notify_one();
        }
    }

    /// How many lines were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Waits until every line taken in so far is written, or the time is over. Whether it was.
    pub fn flush(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut state = self.state.lock();
        let target = state.pushed;
        state.flushing += 1;
        self.work.notify_one();
        while state.done < target {
            if self.written.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.flushing -= 1;
        state.done >= target
    }

    /// Refuses further lines and lets the writer thread end.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.work.notify_one();
    }

    /// The writer thread's life.
    fn write_all_to(&self, mut sink: Box<dyn Write + Send>, drop_notice: impl Fn(&mut Vec<u8>, u64)) {
        let mut batch = Vec::new();
        let mut told = 0;
        loop {
            let Some(lines) = self.next_batch(&mut batch) else { return };
            let dropped = self.dropped();
            if dropped > told {
                drop_notice(&mut batch, dropped - told);
                told = dropped;
            }
            if sink.write_all(&batch).and_then(|()| sink.flush()).is_err() {
                // There is nowhere to say so but in the metric.
                self.dropped.fetch_add(lines, Relaxed);
                told += lines;
            }
            let mut state = self.state.lock();
            state.done += lines;
            drop(state);
            self.written.notify_all();
        }
    }

    /// Waits for lines, lets a batch come together and swaps it into `batch`. `None` after the end.
    fn next_batch(&self, batch: &mut Vec<u8>) -> Option<u64> {
        let mut state = self.state.lock();
        while state.bytes.is_empty() {
            if state.closed {
                return None;
            }
            state.writer = Writer::Idle;
            self.work.wait(&mut state);
        }
        state.writer = Writer::Batching;
        let deadline = Instant::now() + BATCH_PAUSE;
        while state.bytes.len() < BATCH_BYTES && state.flushing == 0 && !state.closed {
            if self.work.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.writer = Writer::Writing;
        batch.clear();
        // What a burst has needed is not kept for good.
        batch.shrink_to(4 * BATCH_BYTES);
        std::mem::swap(&mut state.bytes, batch);
        Some(std::mem::take(&mut state.lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A sink that passes on what it gets, once for each permission to write.
    struct Gated {
        permissions: mpsc::Receiver<()>,
        writes: mpsc::Sender<String>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.permissions.recv().map_err(std::io::Error::other)?;
            self.writes.send(String::from_utf8_lossy(bytes).into_owned()).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn gated(capacity: usize) -> (Arc<Queue>, mpsc::Sender<()>, mpsc::Receiver<String>) {
        let (permit, permissions) = mpsc::channel();
        let (writes, written) = mpsc::channel();
        let notice = |to: &mut Vec<u8>, count: u64| to.extend_from_slice(format!("{count} dropped\n").as_bytes());
        let queue = Queue::with_capacity(capacity, Box::new(Gated { permissions, writes }), notice).unwrap();
        (queue, permit, written)
    }

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn a_blocked_sink_costs_lines_and_not_time_and_says_so() {
        let (queue, permit, written) = gated(20);
        queue.push(b"first\n");
        while queue.state.lock().writer != Writer::Writing {
            std::thread::yield_now();
        }
        for _ in 0..5 {
            queue.push(b"0123456789\n");
        }
        assert_eq!(queue.dropped(), 4);
        assert!(!queue.flush(Duration::from_millis(20)), "the sink is blocked");
        permit.send(()).unwrap();
        permit.send(()).unwrap();
        assert!(queue.flush(SOON));
        let all: Vec<String> = written.try_iter().collect();
        assert_eq!(all, ["first\n", "0123456789\n4 dropped\n"]);
    }

    #[test]
    fn lines_that_come_together_are_written_together() {
        let (queue, permit, written) = gated(1 << 20);
        for number in 0..100 {
            queue.push(format!("{number}\n").as_bytes());
        }
        for _ in 0..100 {
            permit.send(()).unwrap();
        }
        assert!(queue.flush(SOON));
        let writes: Vec<String> = written.try_iter().collect();
        assert!(writes.len() < 10, "{} writes", writes.len());
        assert_eq!(writes.concat(), (0..100).map(|number| format!("{number}\n")).collect::<String>());
    }

    #[test]
    fn many_threads_lose_no_line_and_break_none() {
        let (queue, permit, written) = gated(1 << 24);
        for _ in 0..100_000 {
            permit.send(()).unwrap();
        }
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let queue = &queue;
                scope.spawn(move || (0..5_000).for_each(|n| queue.push(format!("{thread} {n}\n").as_bytes())));
            }
        });
        assert!(queue.flush(SOON));
        let mut next = [0; 4];
        for line in written.try_iter().collect::<String>().lines() {
            let (thread, number) = line.split_once(' ').unwrap();
            let next = &mut next[thread.parse::<usize>().unwrap()];
            assert_eq!(number, next.to_string());
            *next += 1;
        }
        assert_eq!((next, queue.dropped()), ([5_000; 4], 0));
    }

    #[test]
    fn a_broken_sink_is_counted_and_nobody_waits_for_it() {
        let (queue, permit, _written) = gated(1 << 20);
        drop(permit);
        queue.push(b"lost\n");
        assert!(queue.flush(SOON));
        assert_eq!(queue.dropped(), 1);
    }

    #[test]
    fn the_writer_ends_after_close_and_what_was_there_is_written() {
        let (queue, permit, written) = gated(1 << 20);
        permit.send(()).unwrap();
        queue.push(b"last\n");
        queue.close();
        assert_eq!(written.recv_timeout(SOON).unwrap(), "last\n");
        assert!(written.recv_timeout(SOON).is_err(), "the thread has let go of the sink");
        queue.push(b"too late\n");
        assert_eq!(queue.dropped(), 1);
    }
}
