//! Reading the settings again, on a thread, because the file may be a pipe or lie on a disk that hangs.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use mio::Waker;

use crate::config::{Config, ConfigSource, Error};

/// Reads the settings on request, one reading at a time.
#[derive(Debug)]
pub(super) struct Reloader {
    source: ConfigSource,
    waker: Arc<Waker>,
    /// The result of the reading in progress.
    reading: Option<Receiver<Result<Config, Error>>>,
    /// Another reading was requested meanwhile.
    again: bool,
}

impl Reloader {
    /// Reads from `source`. `waker` is woken after each reading.
    pub(super) fn new(source: ConfigSource, waker: Arc<Waker>) -> Reloader {
        Reloader { source, waker, reading: None, again: false }
    }

    /// Starts to read, or notes that another reading must follow the one in progress, because the file may
    /// have changed since it began.
    pub(super) fn request(&mut self) {
        if self.reading.is_some() {
            log::warn!("still reading the settings: they are read once more afterwards");
            self.again = true;
            return;
        }
        let (sender, receiver) = channel();
        let (source, waker) = (self.source.clone(), Arc::clone(&self.waker));
        let thread = thread::Builder::new().name("reload".to_owned()).spawn(move || {
            // The loop has ended if the receiver is gone.
            let _ = sender.send(source.read());
            let _ = waker.wake();
        });
        // Without a thread the sender is gone, and the reading has failed.
        match thread {
            Ok(_) => self.reading = Some(receiver),
            Err(error) => log::error!("settings not reloaded: cannot start a thread: {error}"),
        }
    }

    /// Returns whether a reading is in progress.
    pub(super) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// Returns the result of a reading that has ended, once. Starts the one that must follow.
    pub(super) fn take_result(&mut self) -> Option<Result<Config, Error>> {
        let result = match self.reading.as_ref()?.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => None,
        };
        self.reading = None;
        if std::mem::take(&mut self.again) {
            self.request();
        }
        result
    }
}
