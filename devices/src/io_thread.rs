//! [`IoThread`]: one named OS thread that runs one event loop, on which device workers live.
//!
//! A worker belongs to its thread from [`IoThread::add`] to [`Running::stop`]: nobody else touches
//! it, so nothing on the I/O path takes a lock.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use event_manager::{EventManager, MutEventSubscriber, RemoteEndpoint, SubscriberId};

/// Something that lives on an [`IoThread`] and can be taken off it again.
pub trait Job: MutEventSubscriber + Send + 'static {
    /// What is left when it stops, and goes back to the thread that stopped it.
    type Output: Send + 'static;

    /// Why `init` could not register an event source, if so.
    fn init_error(&mut self) -> Option<io::Error>;

    /// End all work. Runs on the io thread; no event reaches the job any more.
    fn finish(self, how: Stop) -> Self::Output;
}

/// What happens to the results of requests in flight when a worker stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// They reach the guest: pause, save, hot-unplug.
    Deliver,
    /// They are dropped: the driver has reset the device and owns the rings again.
    Discard,
}

/// The object-safe face of a [`Job`], so that one thread holds jobs of any kind.
trait Resident: MutEventSubscriber + Send {
    fn init_error(&mut self) -> Option<io::Error>;
    /// Sends the job's output through the channel it was added with.
    fn finish(self: Box<Self>, how: Stop);
}

struct Slot<J: Job> {
    job: J,
    output: mpsc::Sender<J::Output>,
}

impl<J: Job> MutEventSubscriber for Slot<J> {
    fn process(&mut self, events: event_manager::Events, ops: &mut event_manager::EventOps) {
        self.job.process(events, ops);
    }

    fn init(&mut self, ops: &mut event_manager::EventOps) {
        self.job.init(ops);
    }
}

impl<J: Job> Resident for Slot<J> {
    fn init_error(&mut self) -> Option<io::Error> {
        self.job.init_error()
    }

    fn finish(self: Box<Self>, how: Stop) {
        let Slot { job, output } = *self;
        // The stopper waits on the other end; if it is gone, nobody wants the output.
        let _ = output.send(job.finish(how));
    }
}

type Endpoint = RemoteEndpoint<Box<dyn Resident>>;

/// A handle on the thread. The thread ends when the last handle is dropped.
pub struct IoThread {
    name: String,
    endpoint: Endpoint,
    exit: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl IoThread {
    /// Start a thread called `name` (at most 15 bytes are visible to the host's tools).
    ///
    /// `on_start` runs on the new thread before any job: the place for a seccomp filter.
    ///
    /// # Errors
    /// When the thread or its event loop cannot be made, or `on_start` fails.
    pub fn spawn(
        name: &str,
        on_start: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let exit = Arc::new(AtomicBool::new(false));
        let (started, start) = mpsc::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn({
            let exit = exit.clone();
            move || run(on_start, &started, &exit)
        })?;
        let endpoint = start.recv().unwrap_or_else(|_| Err(gone(name)))?;
        Ok(Arc::new(Self { name: name.to_owned(), endpoint, exit, thread: Some(thread) }))
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hand `job` to the thread; it runs as soon as this returns.
    ///
    /// # Errors
    /// What kept the job from registering its event sources.
    pub fn add<J: Job>(self: &Arc<Self>, job: J) -> io::Result<Running<J>> {
        let (output, finished) = mpsc::channel();
        let slot: Box<dyn Resident> = Box::new(Slot { job, output });
        let id = self
            .endpoint
            .call_blocking(move |ops| {
                let id = ops.add_subscriber(slot);
                let error = ops.subscriber_mut(id).map_or(None, |slot| slot.init_error());
                match error {
                    None => Ok(id),
                    Some(error) => {
                        let _ = ops.remove_subscriber(id);
                        Err(LoopError::Init(error))
                    }
                }
            })
            .map_err(|error| self.error(error))?;
        Ok(Running { thread: self.clone(), id, finished })
    }

    /// Run `act` on the thread and wait for what it returns: for resources that belong to it, whose
    /// making only its seccomp filter allows. Not to be called on an io thread.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn call<R: Send + 'static>(
        &self,
        act: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<R> {
        self.endpoint
            .call_blocking(move |_| Ok::<_, LoopError>(act()))
            .map_err(|error| self.error(error))
    }

    fn error(&self, error: LoopError) -> io::Error {
        match error {
            LoopError::Init(error) => error,
            LoopError::Loop(error) => {
                io::Error::other(format!("event loop of thread {:?}: {error}", self.name))
            }
        }
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        self.exit.store(true, Ordering::Release);
        let _ = self.endpoint.kick();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// A job on its thread. Dropping the handle leaves the job running until the thread ends.
#[must_use]
pub struct Running<J: Job> {
    thread: Arc<IoThread>,
    id: SubscriberId,
    finished: mpsc::Receiver<J::Output>,
}

impl<J: Job> Running<J> {
    /// Take the job off its thread, let it end its work there, and return what is left of it.
    ///
    /// Blocks until requests in flight are done. Not to be called on an io thread.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn stop(self, how: Stop) -> io::Result<J::Output> {
        let id = self.id;
        self.thread
            .endpoint
            .call_blocking(move |ops| {
                ops.remove_subscriber(id)?.finish(how);
                Ok(())
            })
            .map_err(|error| self.thread.error(error))?;
        self.finished.recv().map_err(|_| gone(&self.thread.name))
    }
}

enum LoopError {
    Init(io::Error),
    Loop(event_manager::Error),
}

impl From<event_manager::Error> for LoopError {
    fn from(error: event_manager::Error) -> Self {
        Self::Loop(error)
    }
}

fn gone(name: &str) -> io::Error {
    io::Error::other(format!("thread {name:?} has ended"))
}

fn run(
    on_start: impl FnOnce() -> io::Result<()>,
    started: &mpsc::Sender<io::Result<Endpoint>>,
    exit: &AtomicBool,
) {
    // The loop first: a thread that `on_start` confines may not be able to make one.
    let events = EventManager::new().map_err(io::Error::other);
    let events = events.and_then(|events| on_start().map(|()| events));
    let mut events: EventManager<Box<dyn Resident>> = match events {
        Ok(events) => {
            let _ = started.send(Ok(events.remote_endpoint()));
            events
        }
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    while !exit.load(Ordering::Acquire) {
        // A failed wait can only be EINTR: the epoll fd and the buffer are the loop's own.
        let _ = events.run();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use event_manager::{EventOps, Events};
    use vmm_sys_util::epoll::EventSet;
    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    use super::*;

    struct Counter {
        event: EventFd,
        count: Arc<AtomicUsize>,
        error: Option<io::Error>,
        register_twice: bool,
    }

    impl MutEventSubscriber for Counter {
        fn process(&mut self, _events: Events, _ops: &mut EventOps) {
            let _ = self.event.read();
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        fn init(&mut self, ops: &mut EventOps) {
            for _ in 0..1 + usize::from(self.register_twice) {
                if let Err(error) = ops.add(Events::new(&self.event, EventSet::IN)) {
                    self.error = Some(io::Error::other(error));
                }
            }
        }
    }

    impl Job for Counter {
        type Output = (usize, Stop, String);
        fn init_error(&mut self) -> Option<io::Error> {
            self.error.take()
        }
        fn finish(self, how: Stop) -> Self::Output {
            let thread = thread::current().name().unwrap_or_default().to_owned();
            (self.count.load(Ordering::SeqCst), how, thread)
        }
    }

    fn counter() -> (Counter, EventFd, Arc<AtomicUsize>) {
        let event = EventFd::new(EFD_NONBLOCK).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let job = Counter {
            event: event.try_clone().unwrap(),
            count: count.clone(),
            error: None,
            register_twice: false,
        };
        (job, event, count)
    }

    #[test]
    fn a_job_runs_on_the_named_thread_until_stopped() {
        let thread = IoThread::spawn("io:test", || Ok(())).unwrap();
        let (job, event, count) = counter();
        let running = thread.add(job).unwrap();
        event.write(1).unwrap();
        while count.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        let (events, how, name) = running.stop(Stop::Discard).unwrap();
        assert_eq!((events, how, name.as_str()), (1, Stop::Discard, "io:test"));
        // Nobody listens any more: a late kick is harmless.
        event.write(1).unwrap();
    }

    #[test]
    fn a_call_runs_on_the_thread_and_returns() {
        let thread = IoThread::spawn("io:test", || Ok(())).unwrap();
        let name = thread.call(|| thread::current().name().map(str::to_owned)).unwrap();
        assert_eq!(name.as_deref(), Some("io:test"));
    }

    #[test]
    fn a_failing_start_hook_fails_the_spawn() {
        let error = IoThread::spawn("io:test", || Err(io::Error::other("no filter"))).err();
        assert_eq!(error.unwrap().to_string(), "no filter");
    }

    #[test]
    fn a_job_that_cannot_register_is_refused() {
        let thread = IoThread::spawn("io:test", || Ok(())).unwrap();
        let (mut job, _event, _count) = counter();
        job.register_twice = true;
        assert!(thread.add(job).is_err());
        let (job, _event, _count) = counter();
        thread.add(job).unwrap().stop(Stop::Deliver).unwrap();
    }
}
