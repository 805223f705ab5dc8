//! The questions of api.py once more, by a client that makes no objects of the answers: what is timed is the daemon,
//! from the call's first byte to the answer's last, and its processor time is told by its kernel.

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use manor_tests::libvirt_raw::{Call, RawClient, definition};

use super::api::{Figures, Server};
use super::table::median;

const CLIENTS: usize = 8;
/// Questions about one domain for each about all, of a busy client.
const SMALL: usize = 20;
/// However long it takes.
const LEAST: usize = 2;
/// In which the daemons are asked by turns.
const TURNS: u32 = 4;
/// What `/proc/PID/stat` counts in.
const TICK_US: f64 = 10_000.0;

/// What is asked, by name.
const QUESTIONS: [&str; 5] = ["list", "stats", "info", "xml", "lookup"];

fn questions(client: &mut RawClient, count: usize) -> anyhow::Result<[Call; 5]> {
    let name = name(count / 2);
    let domain = client.find(&name)?;
    let (info, xml) = (Call::info(&domain), Call::xml(&domain));
    Ok([Call::list(), Call::stats(), info, xml, Call::lookup(&name)])
}

/// Of a domain that is defined for the measurement.
pub(super) fn name(index: usize) -> String {
    format!("bench-{index:04}")
}

/// So that there are `count` domains.
pub(super) fn fill(socket: &Path, count: usize) -> anyhow::Result<()> {
    let mut client = RawClient::connect(socket)?;
    for index in client.count()?..count {
        client.define(&Call::define(&definition(&name(index))))?;
    }
    Ok(())
}

/// Both daemons are asked the same in short turns, so that what else the machine does meets both.
pub(super) fn measure(
    servers: &[Server; 2],
    count: usize,
    seconds: Duration,
    figures: &mut [Figures; 2],
) -> anyhow::Result<()> {
    let mut put = |of: usize, name: String, value| {
        figures[of].entry(name).or_default().push(value);
    };
    let mut clients = Vec::new();
    for server in servers {
        let mut client = RawClient::connect(&server.socket)?;
        let asked = questions(&mut client, count)?;
        clients.push((server.pid, client, asked));
    }
    for question in 0..QUESTIONS.len() {
        let taken = in_turns(&mut clients, seconds, |(pid, client, asked), time| {
            watched(*pid, || each(time, || client.ask(&asked[question]).map(drop)))
        })?;
        for (of, (taken, processor)) in taken.into_iter().enumerate() {
            let name = QUESTIONS[question];
            put(of, format!("raw_{name}"), median(taken).context("nothing was asked")?);
            put(of, format!("cpu_{name}"), processor);
        }
    }
    let define = Call::define(&definition("bench-cycle"));
    let taken = in_turns(&mut clients, seconds, |(pid, client, _), time| {
        let cycle = || {
            let domain = client.define(&define)?;
            client.undefine(&domain)
        };
        watched(*pid, || each(time, cycle))
    })?;
    for (of, (taken, processor)) in taken.into_iter().enumerate() {
        put(of, "raw_cycles".to_owned(), 1e6 / median(taken).context("nothing was defined")?);
        put(of, "cpu_cycle".to_owned(), processor);
    }
    for (of, server) in servers.iter().enumerate() {
        busy(&server.socket, count, 2 * seconds, &mut |name, value| put(of, name, value))?;
    }
    Ok(())
}

/// What each took of all its turns, and what one of these cost the processor.
fn in_turns<C>(
    clients: &mut [C],
    seconds: Duration,
    mut turn: impl FnMut(&mut C, Duration) -> anyhow::Result<(Vec<f64>, f64)>,
) -> anyhow::Result<Vec<(Vec<f64>, f64)>> {
    let mut all: Vec<_> = clients.iter().map(|_| (Vec::new(), 0.0)).collect();
    for _ in 0..TURNS {
        for (client, (taken, processor)) in clients.iter_mut().zip(&mut all) {
            let (more, used) = turn(client, seconds / TURNS)?;
            taken.extend(more);
            *processor += used;
        }
    }
    for (taken, processor) in &mut all {
        *processor /= taken.len() as f64;
    }
    Ok(all)
}

/// Microseconds of each act, for so long.
fn each(time: Duration, mut act: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Vec<f64>> {
    let (begun, mut taken) = (Instant::now(), Vec::new());
    while begun.elapsed() < time || taken.len() < LEAST {
        let begun = Instant::now();
        act()?;
        taken.push(microseconds(begun.elapsed()));
    }
    Ok(taken)
}

/// What something took, and what it cost the daemon's processor.
fn watched(
    pid: u32,
    act: impl FnOnce() -> anyhow::Result<Vec<f64>>,
) -> anyhow::Result<(Vec<f64>, f64)> {
    let before = processor(pid)?;
    let taken = act()?;
    Ok((taken, processor(pid)? - before))
}

/// Several clients that work at once.
fn busy(
    socket: &Path,
    count: usize,
    seconds: Duration,
    put: &mut impl FnMut(String, f64),
) -> anyhow::Result<()> {
    let begin = Barrier::new(CLIENTS);
    let work = || -> anyhow::Result<Vec<(&'static str, f64)>> {
        let connected = RawClient::connect(socket)
            .and_then(|mut client| Ok((questions(&mut client, count)?, client)));
        // Also after an error: the others wait for it.
        begin.wait();
        let (asked, mut client) = connected?;
        let (begun, mut taken) = (Instant::now(), Vec::new());
        while begun.elapsed() < seconds {
            for (name, call) in QUESTIONS.into_iter().zip(&asked) {
                for _ in 0..if matches!(name, "list" | "stats") { 1 } else { SMALL } {
                    let begun = Instant::now();
                    client.ask(call)?;
                    taken.push((name, microseconds(begun.elapsed())));
                }
            }
        }
        Ok(taken)
    };
    let taken = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(work)).collect();
        let joined = clients.into_iter().map(|client| client.join().expect("it does not panic"));
        joined.collect::<anyhow::Result<Vec<_>>>()
    })?
    .concat();
    put("raw_busy_calls".to_owned(), taken.len() as f64 / seconds.as_secs_f64());
    for name in QUESTIONS {
        let of_it = taken.iter().filter(|(of, _)| *of == name);
        let mut of_it: Vec<f64> = of_it.map(|(_, taken)| *taken).collect();
        of_it.sort_by(f64::total_cmp);
        let at = of_it.len() * 99 / 100;
        put(format!("raw_busy_{name}"), *of_it.get(at).context("nothing was asked")?);
    }
    Ok(())
}

/// Microseconds of processor time that a process has had, its threads that ended included.
fn processor(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("odd /proc/PID/stat")?.1.split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    Ok(ticks.iter().sum::<f64>() * TICK_US)
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
