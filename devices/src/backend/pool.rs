//! [`Pool`]: threads that carry out requests of a disk whose I/O blocks, several at once, and
//! [`PoolChannel`], one queue's way to them.
//!
//! A request that comes alone is carried out by the io thread itself: that costs nobody a wake-up.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use super::answers::{Answers, Spares};
use super::blocking::Blocking;
use super::disk::{Channel, Finished, Request};
use crate::sync::Lock;

struct Job {
    disk: Arc<dyn Blocking>,
    token: u16,
    request: Request,
    answers: Arc<Answers>,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    closing: bool,
}

#[derive(Default)]
struct Queue {
    jobs: Mutex<Jobs>,
    more: Condvar,
}

impl Queue {
    /// The next job; none when the pool ends.
    fn next(&self) -> Option<Job> {
        let mut jobs = self.jobs.hold();
        loop {
            if let Some(job) = jobs.waiting.pop_front() {
                return Some(job);
            }
            if jobs.closing {
                return None;
            }
            jobs = wait(&self.more, jobs);
        }
    }
}

fn wait<'a, T>(told: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    told.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// The threads of a disk, whatever that becomes. They end with it.
pub struct Pool {
    queue: Arc<Queue>,
    spare: Spares,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// `count` threads called `name`, for `users` channels at once; each runs `prepare` before
    /// anything else: the place for a seccomp filter.
    ///
    /// # Errors
    /// When a thread cannot be made, or not be prepared.
    pub fn new(
        name: &str,
        count: usize,
        users: usize,
        prepare: impl Fn() -> io::Result<()> + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let mut pool = Self {
            queue: Arc::default(),
            spare: Spares::new(users)?,
            threads: Vec::with_capacity(count),
        };
        let (ready, prepared) = mpsc::channel();
        for _ in 0..count {
            let queue = pool.queue.clone();
            let (prepare, ready) = (prepare.clone(), ready.clone());
            let work = move || {
                let result = prepare();
                let good = result.is_ok();
                // The maker waits on the other end.
                let _ = ready.send(result);
                while good && let Some(job) = queue.next() {
                    carry_out(job);
                }
            };
            pool.threads.push(thread::Builder::new().name(name.to_owned()).spawn(work)?);
        }
        for _ in 0..count {
            prepared.recv().map_err(io::Error::other)??;
        }
        Ok(pool)
    }

    /// A channel, if there is one left.
    pub(crate) fn channel(&self, disk: Arc<dyn Blocking>) -> Option<PoolChannel> {
        let answers = self.spare.answers()?;
        Some(PoolChannel {
            disk,
            spare: self.spare.clone(),
            queue: self.queue.clone(),
            answers,
            batch: Vec::new(),
            in_flight: 0,
            finished: VecDeque::new(),
        })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.jobs.hold().closing = true;
        self.queue.more.notify_all();
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn carry_out(job: Job) {
    let Job { disk, token, request, answers } = job;
    let finished = run(&*disk, token, request);
    // Whoever hears of the end may close the disk: it must be the last to have it.
    drop(disk);
    answers.give(finished);
}

fn run(disk: &dyn Blocking, token: u16, request: Request) -> Finished {
    let Request { action, offset, mut buffers } = request;
    let result = disk.run(action, offset, &mut buffers);
    Finished { token, result, buffers }
}

pub(crate) struct PoolChannel {
    disk: Arc<dyn Blocking>,
    spare: Spares,
    queue: Arc<Queue>,
    answers: Arc<Answers>,
    /// Started, and not handed on.
    batch: Vec<(u16, Request)>,
    /// With the threads.
    in_flight: usize,
    finished: VecDeque<Finished>,
}

impl PoolChannel {
    /// Nothing else is to be done meanwhile.
    fn is_alone(&self) -> bool {
        self.batch.len() == 1 && self.in_flight == 0
    }

    fn run_alone(&mut self) {
        if self.is_alone()
            && let Some((token, request)) = self.batch.pop()
        {
            self.finished.push_back(run(&*self.disk, token, request));
        }
    }

    fn collect(&mut self) {
        if self.in_flight == 0 {
            return;
        }
        self.in_flight -= self.answers.take(&mut self.finished);
    }
}

impl Channel for PoolChannel {
    fn start(&mut self, token: u16, request: Request) {
        self.batch.push((token, request));
    }

    /// A request that is alone stays, and is carried out when its end is asked for.
    fn submit(&mut self) {
        if self.batch.is_empty() || self.is_alone() {
            return;
        }
        self.in_flight += self.batch.len();
        let (disk, answers) = (&self.disk, &self.answers);
        let jobs = self.batch.drain(..).map(|(token, request)| Job {
            disk: disk.clone(),
            token,
            request,
            answers: answers.clone(),
        });
        self.queue.jobs.hold().waiting.extend(jobs);
        self.queue.more.notify_all();
    }

    fn finished(&mut self) -> Option<Finished> {
        if self.finished.is_empty() {
            self.run_alone();
            self.collect();
        }
        self.finished.pop_front()
    }

    fn source(&self) -> Option<RawFd> {
        Some(self.answers.source())
    }

    fn wait(&mut self) {
        self.run_alone();
        self.submit();
        if !self.finished.is_empty() || self.in_flight == 0 {
            return;
        }
        self.answers.wait();
    }
}

impl Drop for PoolChannel {
    fn drop(&mut self) {
        if self.in_flight == 0 {
            self.spare.put_back(&self.answers);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use memory::{Backing, GuestRam, IoBuffers};

    use super::*;
    use crate::backend::Action;

    /// Requests at offsets that are not zero wait until four of them are there.
    struct Meeting {
        barrier: Barrier,
        threads: Mutex<Vec<String>>,
        count: AtomicUsize,
    }

    impl Blocking for Meeting {
        fn run(&self, _: Action, offset: u64, _: &mut IoBuffers) -> io::Result<()> {
            self.count.fetch_add(1, SeqCst);
            let name = thread::current().name().unwrap_or_default().to_owned();
            self.threads.hold().push(name);
            if offset > 0 {
                self.barrier.wait();
            }
            if offset == 99 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
        }
    }

    fn rig() -> (Arc<Meeting>, Pool, PoolChannel, GuestRam) {
        let meeting = Arc::new(Meeting {
            barrier: Barrier::new(4),
            threads: Mutex::default(),
            count: AtomicUsize::new(0),
        });
        let pool = Pool::new("pool", 4, 1, || Ok(())).unwrap();
        let channel = pool.channel(meeting.clone()).unwrap();
        assert!(pool.channel(meeting.clone()).is_none(), "there is one");
        (meeting, pool, channel, GuestRam::new(&[(0, 4096)], &Backing::Anonymous).unwrap())
    }

    fn request(ram: &GuestRam, offset: u64) -> Request {
        Request { action: Action::Flush, offset, buffers: IoBuffers::new(ram.clone()) }
    }

    #[test]
    fn several_requests_are_carried_out_at_once_and_each_has_its_own_end() {
        let (meeting, _pool, mut channel, ram) = rig();
        for round in 0..10 {
            for token in 0..4 {
                let offset = if token == 3 { 99 } else { 1 };
                channel.start(token, request(&ram, offset));
            }
            channel.submit();
            let mut ended = Vec::new();
            while ended.len() < 4 {
                channel.wait();
                while let Some(Finished { token, result, .. }) = channel.finished() {
                    ended.push((token, result.is_ok()));
                }
            }
            ended.sort_unstable();
            assert_eq!(ended, [(0, true), (1, true), (2, true), (3, false)], "{round}");
        }
        assert!(meeting.threads.hold().iter().all(|name| name == "pool"));
        assert!(!channel.answers.rings(), "nothing rings any more");
    }

    #[test]
    fn a_request_that_is_alone_wakes_nobody() {
        let (meeting, pool, channel, ram) = rig();
        drop(channel);
        let mut channel = pool.channel(meeting.clone()).expect("it came back");
        channel.start(7, request(&ram, 0));
        channel.submit();
        assert_eq!(channel.finished().unwrap().token, 7);
        channel.start(8, request(&ram, 0));
        channel.wait();
        assert_eq!(channel.finished().unwrap().token, 8);
        assert!(meeting.threads.hold().iter().all(|name| name != "pool"));
        assert!(channel.finished().is_none());
        channel.wait();
        drop(pool);
        assert_eq!(meeting.count.load(SeqCst), 2);
    }

    #[test]
    fn threads_that_cannot_be_confined_are_an_error() {
        let refuse = || Err(io::ErrorKind::PermissionDenied.into());
        assert!(Pool::new("pool", 2, 1, refuse).is_err());
    }
}
