//! The start of a server: what it listens on, and what it does while the state is restored.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use mio::Registry;

use super::admin::Admin;
use super::restore_thread::{OpenLog, Progress, RestoreThread};
use super::service_manager::ServiceManager;
use super::signals::SignalThread;
use super::tcp::{ReservedPort, TcpAcceptor};
use super::{Poller, StartError};
use crate::config::Config;
use crate::hub::NextTurn;

/// The time between two reports of progress to the service manager.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A port that the server is going to listen on.
#[derive(Debug)]
pub(super) struct Port {
    /// The purpose: "events", "clients" or "operators".
    purpose: &'static str,
    address: SocketAddr,
    reserved: ReservedPort,
}

impl Port {
    /// Takes the inherited listener, or binds a socket to the address.
    pub(super) fn reserve(
        purpose: &'static str,
        inherited: Option<TcpListener>,
        address: SocketAddr,
    ) -> Result<Port, StartError> {
        let reserved = match inherited {
            Some(listener) => {
                log::info!("listening for {purpose} on a socket of the service manager");
                ReservedPort::Inherited(listener)
            }
            None => ReservedPort::bind(address).map_err(|error| StartError::Listen {
                purpose,
                address,
                error,
            })?,
        };
        Ok(Port { purpose, address, reserved })
    }

    /// Listens on the port. Returns its address.
    pub(super) fn listen(
        self,
        registry: &Registry,
        token: usize,
        peer_timeout: Duration,
    ) -> Result<(SocketAddr, TcpAcceptor), StartError> {
        let Port { purpose, address, reserved } = self;
        TcpAcceptor::listen(reserved, registry, token, peer_timeout)
            .and_then(|acceptor| Ok((acceptor.local_addr()?, acceptor)))
            .map_err(|error| StartError::Listen { purpose, address, error })
    }
}

/// What the loop serves before there is a hub.
pub(super) struct Startup<'a> {
    pub(super) poller: &'a mut Poller,
    pub(super) signals: &'a SignalThread,
    pub(super) service_manager: &'a ServiceManager,
    pub(super) admin: Option<&'a mut Admin>,
    pub(super) config: &'a Config,
}

impl Startup<'_> {
    /// Serves operators, and tells the service manager of the progress, until the state is restored.
    /// Returns `None` as soon as a signal asks to stop.
    pub(super) fn wait_for(mut self, start: &RestoreThread) -> Result<Option<OpenLog>, StartError> {
        let (verb, log) = match self.config.stream {
            None => ("recovered", "journal"),
            Some(_) => ("read", "stream"),
        };
        if let Some(admin) = &self.admin {
            log::info!("operators are served on {} while the {log} is {verb}", admin.address());
        }
        let mut reported: Option<(Instant, Progress)> = None;
        loop {
            if let Some(result) = start.take_result() {
                return result.map(Some);
            }
            let progress = start.progress();
            if self.signals.take_stop() {
                log::info!("stopping: the {log} is not {verb} ({progress})");
                self.service_manager.stopping(Duration::ZERO);
                return Ok(None);
            }
            if reported.as_ref().is_none_or(|(at, _)| at.elapsed() >= REPORT_INTERVAL) {
                let is_progress =
                    progress.is_waiting() || reported.is_none_or(|(_, last)| last != progress);
                self.service_manager.starting(&progress.to_string(), is_progress);
                reported = Some((Instant::now(), progress.clone()));
            }
            self.turn(progress).map_err(StartError::Setup)?;
        }
    }

    /// Waits for readiness, at most for the interval of reports, and serves operators.
    fn turn(&mut self, progress: Progress) -> io::Result<()> {
        let timeout = match self.admin.as_ref().map(|admin| admin.next_turn()) {
            Some(NextTurn::Now) => Duration::ZERO,
            Some(NextTurn::Until(when)) => {
                when.saturating_duration_since(Instant::now()).min(REPORT_INTERVAL)
            }
            Some(NextTurn::WhenReady) | None => REPORT_INTERVAL,
        };
        // The wait may end without a reason, as after a signal that is not to stop.
        self.poller.wait(Some(timeout), &mut Vec::new())?;
        if let Some(admin) = &mut self.admin {
            admin.turn_while_replaying(&self.poller.admin_ready, self.config, progress);
            self.poller.admin_ready.clear();
        }
        Ok(())
    }
}
