//! A worker: it does one thing after the other with a state of its own, and publishes what there
//! is after each, so that who only looks waits for nobody.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{Code, Error};

/// What a worker works on.
pub(crate) trait State: Send + Sized + 'static {
    /// What others see of it.
    type Published: Send + Sync + 'static;
    /// In messages: `pool`.
    const KIND: &'static str;
    fn publish(&self) -> Self::Published;
    /// Something was done with it, whether that worked or not.
    fn touched(&mut self);
    /// Nothing is left of it: the worker ends.
    fn is_gone(&self) -> bool;
}

/// Runs on the worker; what it returns is done once the new state can be seen.
type Work<S> = Box<dyn FnOnce(&mut S) -> Box<dyn FnOnce() + Send> + Send>;

/// A worker for everyone else.
pub(crate) struct Worker<S: State> {
    work: mpsc::UnboundedSender<Work<S>>,
    published: watch::Receiver<Arc<S::Published>>,
}

impl<S: State> Worker<S> {
    pub(crate) fn spawn(state: S) -> Arc<Self> {
        let (work, queue) = mpsc::unbounded_channel();
        let (publisher, published) = watch::channel(Arc::new(state.publish()));
        tokio::spawn(serve(state, queue, publisher));
        Arc::new(Self { work, published })
    }

    /// What there was when the worker was last done with something.
    pub(crate) fn now(&self) -> Arc<S::Published> {
        self.published.borrow().clone()
    }

    /// To be told of each [`now`](Self::now).
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<S::Published>> {
        self.published.clone()
    }

    /// Do something with the state, after what others do with it. May block.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut S) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, result) = oneshot::channel();
        let work: Work<S> = Box::new(move |state| {
            let result = act(state);
            state.touched();
            // Whoever asked may have gone away.
            Box::new(move || drop(reply.send(result)))
        });
        let gone = || Error::new(Code::NotFound, format!("the {} is gone", S::KIND));
        self.work.send(work).map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }
}

async fn serve<S: State>(
    mut state: S,
    mut queue: mpsc::UnboundedReceiver<Work<S>>,
    publisher: watch::Sender<Arc<S::Published>>,
) {
    while let Some(work) = queue.recv().await {
        let done = tokio::task::spawn_blocking(move || {
            let reply = work(&mut state);
            (state, reply)
        });
        let Ok((next, reply)) = done.await else { return };
        state = next;
        publisher.send_replace(Arc::new(state.publish()));
        reply();
        if state.is_gone() {
            return;
        }
    }
}
