//! Nanoseconds per call of the clock functions.

use crate::Result;
use crate::clocks::Clock;
use crate::configuration::{Configuration, Workers};
use crate::counter;
use crate::report::{Cell, Table};
use crate::statistics::Sorted;
use rustix::thread::sched_getaffinity;
use std::path::Path;

/// Rounds that are thrown away: caches, branch predictors and the processor's frequency settle.
const WARM_UP: u32 = 10;

/// One round of one worker, per call.
#[derive(Clone, Copy)]
struct Round {
    ns: f64,
    cycles: f64,
    instructions: f64,
}

/// Measures all clocks in all configurations, in turns on one processor.
pub(crate) fn run(elsewhen: &Path, rounds: u32, calls: u32) -> Result<Vec<Table>> {
    let Workers { mut running, skipped: mut notes } = Workers::start(&Configuration::ALL, elsewhen)?;
    let allowed = sched_getaffinity(None)?;
    let cpu = (0..rustix::thread::CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu)).ok_or("no processor")?;
    let mut uncounted = None;
    for worker in &mut running {
        worker.ask(&format!("pin {cpu}"))?;
        let answer = worker.ask("counters")?;
        if answer != "ok" {
            uncounted = Some(answer);
        }
    }
    match &uncounted {
        Some(reason) => notes.push(format!("skipped cycles and instructions: perf_event_open: {reason}")),
        None => notes.push("cycles and instructions: in user mode, median of rounds".to_owned()),
    }

    let tick_ns = counter::tick_ns();
    let workers = running.len();
    // By clock, by worker, by round.
    let mut results = vec![vec![Vec::new(); workers]; Clock::ALL.len()];
    for round in 0..rounds + WARM_UP {
        for (clock, results) in Clock::ALL.into_iter().zip(&mut results) {
            for turn in 0..workers {
                // Each is as often first as it is last, and each follows the same one.
                let index = (turn + round as usize) % workers;
                let request = format!("go {} {calls}", clock.name());
                let per_call = running[index].ask_numbers::<u64, 3>(&request)?.map(|sum| sum as f64 / f64::from(calls));
                if round >= WARM_UP {
                    let [ticks, cycles, instructions] = per_call;
                    results[index].push(Round { ns: ticks * tick_ns, cycles, instructions });
                }
            }
        }
    }

    let names = ["clock", "configuration", "min ns", "p10 ns", "median ns", "ratio to host"];
    let mut columns: Vec<String> = names.map(str::to_owned).to_vec();
    if uncounted.is_none() {
        columns.extend(["cycles", "instructions"].map(str::to_owned));
    }
    let mut rows = Vec::new();
    for (clock, results) in Clock::ALL.iter().zip(&results) {
        for (worker, result) in running.iter().zip(results) {
            let ns = Sorted::new(result.iter().map(|round| round.ns));
            let ratio = Sorted::new(result.iter().zip(&results[0]).map(|(round, host)| round.ns / host.ns));
            let mut row = vec![Cell::text(clock.name()), Cell::text(worker.configuration.name())];
            row.extend([ns.min(), ns.quantile(0.1), ns.median()].map(|ns| Cell::Number(ns, 1)));
            row.push(Cell::Number(ratio.median(), 3));
            if uncounted.is_none() {
                row.push(Cell::Number(Sorted::new(result.iter().map(|round| round.cycles)).median(), 1));
                row.push(Cell::Number(Sorted::new(result.iter().map(|round| round.instructions)).median(), 1));
            }
            rows.push(row);
        }
    }
    notes.insert(0, format!("{rounds} rounds of {calls} calls through libc; the workers take turns on one processor"));
    notes
        .insert(1, "ratio to host: median of the rounds' ratios, each to the host's time in the same round".to_owned());
    notes.extend(
        running
            .iter()
            .filter(|worker| !worker.configuration.prefix().is_empty())
            .map(|worker| format!("{}: `{}`", worker.configuration.name(), worker.configuration.prefix().join(" "))),
    );
    Ok(vec![Table { title: "Reading clocks".to_owned(), columns, rows, notes }])
}
