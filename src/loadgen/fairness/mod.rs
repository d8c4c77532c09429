//! `fairness`: how long others wait while a source floods the server.
//!
//! One thread floods and measures. Between two small steps of the flood it looks whether somebody
//! has been served, so that it sees everything late by the length of a step, never early; how far
//! its looks lie apart is measured too.
//!
//! How long a byte waits that the server has queued is bounded by what can be seen from outside:
//! whatever a turn of the server's loop queues is written at its end, unless the socket is full, and
//! under a flood with many broadcasts each turn writes to each client. So the time from one write to
//! the next at a client that is read at once is the length of a turn, and no queued byte waits
//! longer. Where broadcasts are rare it is more than a turn, and a bound all the same.

mod guest;
mod waits;

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use rustix::process::Signal;

use self::guest::{Guest, Witness};
pub(crate) use self::waits::Outcome;
use self::waits::{Waits, record};
use super::connect::Addresses;
use super::flood::{Flood, Load, MAX_CHECKED};
use super::interrupt::{self, Interrupted};
use super::journal::Journal;
use super::process::Process;
use super::server::Server;

/// Flooded without measuring, so that buffers are as they will be.
const WARM_UP: Duration = Duration::from_millis(500);
/// For each so many new clients, one that says nothing, and one signal.
const CLIENTS_A_SILENT_ONE: u64 = 10;
const CLIENTS_A_SIGNAL: u64 = 20;
/// The longest sleep: mio's timeout has whole milliseconds.
const SLEEP: Duration = Duration::from_millis(1);

const WITNESS: Token = Token(usize::MAX - 2);
const JOURNAL: Token = Token(usize::MAX - 3);
/// Guests have tokens from here on; the crowd is smaller.
const FIRST_GUEST: usize = 1 << 32;

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct Experiment {
    pub(crate) load: Load,
    pub(crate) duration: Duration,
    /// From one new client to the next.
    pub(crate) interval: Duration,
    /// The server's; `None` where it is not known.
    pub(crate) identify_timeout: Option<Duration>,
    /// Nobody may wait longer.
    pub(crate) bound: Duration,
    /// Somebody who has waited for so long will not be served.
    pub(crate) timeout: Duration,
}

impl Experiment {
    /// Says what will be done.
    pub(crate) fn introduction(&self) -> String {
        let Load { mix, users, crowd } = &self.load;
        format!(
            "fairness: the mix `{mix}` as fast as the server takes it, {crowd} of {users} users \
             connected, {} of them checked, a new client every {:?} for {:?}",
            (*crowd).min(MAX_CHECKED),
            self.interval,
            self.duration
        )
    }
}

/// Floods `server`, measures, and stops it. Where a signal comes, it returns what there is so far.
///
/// # Errors
///
/// A connection fails, somebody is never served, or receives something else than the flood.
pub(crate) fn measure(experiment: &Experiment, mut server: Server) -> io::Result<Outcome> {
    let mut trial = Trial::connect(experiment, &mut server)?;
    trial.flood_until(Instant::now() + WARM_UP)?;
    interrupt::check()?;
    trial.waits = Waits::new()?;
    let busy_before = server.process.and_then(Process::cpu_time);
    let (start, first) = (Instant::now(), trial.flood.next_sequence());
    trial.admit_until(start + experiment.duration)?;
    let (time, sent) = (start.elapsed().as_secs_f64(), trial.flood.next_sequence() - first);
    let busy_after = server.process.and_then(Process::cpu_time);
    let result = trial.see_off().and_then(|()| trial.settle());
    let waits = trial.waits;
    match result.and_then(|()| server.stop()) {
        Err(error) if Interrupted::of(&error).is_none() => return Err(error),
        _ => {}
    }
    let busy = busy_after.zip(busy_before).map(|(after, before)| after - before);
    let busy = busy.map(|busy| busy.as_secs_f64() / time);
    Ok(Outcome::new(waits, experiment.bound, sent as f64 / time, busy))
}

/// The measurement under way.
struct Trial<'a> {
    experiment: &'a Experiment,
    to: Addresses,
    process: Option<Process>,
    poll: Poll,
    events: Events,
    flood: Flood,
    witness: Witness,
    journal: Option<Journal>,
    /// When totals were asked for that have not come.
    asked: Option<Instant>,
    /// Who waits for something, by token.
    guests: HashMap<usize, Guest>,
    admitted: u64,
    waits: Waits,
    last_look: Instant,
}

impl<'a> Trial<'a> {
    fn connect(experiment: &'a Experiment, server: &mut Server) -> io::Result<Trial<'a>> {
        let (poll, to) = (Poll::new()?, server.addresses);
        let log = server.take_log();
        let journal = log.map(|log| Journal::new(log, poll.registry(), JOURNAL)).transpose()?;
        let witness = experiment.load.users + 1;
        let flood = Flood::connect(to, &experiment.load, witness, poll.registry())?;
        let client = flood.connect_witness(to, witness, (poll.registry(), WITNESS))?;
        Ok(Trial {
            experiment,
            to,
            process: server.process,
            witness: Witness::new(client),
            poll,
            events: Events::with_capacity(1024),
            flood,
            journal,
            asked: None,
            guests: HashMap::new(),
            admitted: 0,
            waits: Waits::new()?,
            last_look: Instant::now(),
        })
    }

    fn flood_until(&mut self, end: Instant) -> io::Result<()> {
        while Instant::now() < end && !interrupt::has_come() {
            self.go_on()?;
        }
        Ok(())
    }

    /// Floods, and lets new clients come.
    fn admit_until(&mut self, end: Instant) -> io::Result<()> {
        let mut next = Instant::now();
        while next < end && !interrupt::has_come() {
            self.go_on()?;
            let now = Instant::now();
            if now >= next {
                self.admit(now)?;
                next = now + self.experiment.interval;
            }
        }
        Ok(())
    }

    /// Floods until everybody has been served.
    fn see_off(&mut self) -> io::Result<()> {
        while !self.guests.is_empty() || self.asked.is_some() {
            interrupt::check()?;
            self.go_on()?;
        }
        Ok(())
    }

    /// Ends the flood and waits until all of it has arrived, so that the server is idle when it is
    /// left to another run.
    fn settle(&mut self) -> io::Result<()> {
        self.flood.end();
        while !self.flood.has_arrived() {
            interrupt::check()?;
            self.go_on()?;
            if self.flood.last_arrival().elapsed() > self.experiment.timeout {
                return self.flood.missing().map_or(Ok(()), Err);
            }
        }
        self.flood.finish(self.witness.client())
    }

    /// A step of the flood, and a look around.
    fn go_on(&mut self) -> io::Result<()> {
        self.flood.step()?;
        let patience = if self.flood.has_work() { Duration::ZERO } else { SLEEP };
        record(&mut self.waits.look, self.last_look.elapsed());
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            result => result?,
        }
        self.last_look = Instant::now();
        for event in &self.events {
            match event.token() {
                WITNESS => self.witness.read(self.flood.in_flight(), &mut self.waits.turn)?,
                JOURNAL => {
                    let totals = self.journal.as_mut().map_or(Ok(None), Journal::read)?;
                    if let Some(asked) = self.asked.take_if(|_| totals.is_some()) {
                        record(&mut self.waits.signal, asked.elapsed());
                    }
                }
                _ if self.flood.note(event) => {}
                Token(token) => {
                    let Some(guest) = self.guests.get_mut(&token) else { continue };
                    if guest.look(self.flood.next_sequence(), &mut self.waits)? {
                        self.guests.remove(&token);
                    }
                }
            }
        }
        self.check_patience()
    }

    /// Lets one new client come, and now and then somebody else.
    fn admit(&mut self, now: Instant) -> io::Result<()> {
        let number = self.admitted;
        self.admitted += 1;
        let token = FIRST_GUEST + 2 * number as usize;
        // Nobody sends anything to them alone: what they get first is a broadcast.
        let user = self.experiment.load.users + 2 + number;
        let registry = self.poll.registry();
        self.guests.insert(token, Guest::newcomer(self.to, user, registry, Token(token))?);
        if let Some(timeout) = self.experiment.identify_timeout
            && number.is_multiple_of(CLIENTS_A_SILENT_ONE)
        {
            let silent = Guest::silent(self.to, timeout, registry, Token(token + 1))?;
            self.guests.insert(token + 1, silent);
        }
        if number.is_multiple_of(CLIENTS_A_SIGNAL) && self.asked.is_none() {
            self.ask(now)?;
        }
        Ok(())
    }

    /// Asks for totals where they can be read.
    fn ask(&mut self, now: Instant) -> io::Result<()> {
        if let (Some(process), Some(_)) = (self.process, &self.journal) {
            self.asked = Some(now);
            process.signal(Signal::USR1)?;
        }
        Ok(())
    }

    /// # Errors
    ///
    /// Somebody has waited for so long that nothing will come.
    fn check_patience(&self) -> io::Result<()> {
        let timeout = self.experiment.timeout;
        let is_lost = |since: Instant| self.last_look.saturating_duration_since(since) > timeout;
        let lost = self.guests.values().find(|guest| is_lost(guest.due())).map(Guest::complaint);
        let silence =
            self.asked.filter(|&asked| is_lost(asked)).map(|_| "SIGUSR1 brought no totals");
        match lost.or(silence) {
            Some(complaint) => Err(io::Error::other(format!("{complaint} within {timeout:?}"))),
            None => Ok(()),
        }
    }
}
