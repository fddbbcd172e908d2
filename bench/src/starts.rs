//! Microseconds per started program.

use crate::Result;
use crate::configuration::{Configuration, Workers};
use crate::counter;
use crate::report::{Cell, Table};
use crate::statistics::Sorted;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Rounds that are thrown away.
const WARM_UP: u32 = 5;

/// Programs started in a round, by each worker: enough for the second to find what the first left in caches.
const STARTS: u32 = 4;

/// Failing calls in a round, by each worker.
const FAILURES: u32 = 50;

/// The program that is started: it returns at once.
const SOURCE: &str = "int main(void) { return 0; }\n";

/// Measures starts of a static and of a dynamic program, and failing ones, in turns.
pub(crate) fn run(elsewhen: &Path, rounds: u32) -> Result<Vec<Table>> {
    let programs = Programs::compile()?;
    let Workers { mut running, skipped: mut notes } = Workers::start(&Configuration::ALL, elsewhen)?;
    let mut cases = vec![("execve of a missing path", format!("missing {}", programs.missing().display()), FAILURES)];
    for (name, linked) in [("dynamic program", &programs.dynamic), ("static program", &programs.fixed)] {
        match linked {
            Ok(path) => cases.insert(0, (name, format!("start {}", path.display()), STARTS)),
            Err(reason) => notes.push(format!("skipped {name}: {reason}")),
        }
    }

    let tick_ns = counter::tick_ns();
    let workers = running.len();
    // By case, by worker, by round.
    let mut results = vec![vec![Vec::new(); workers]; cases.len()];
    for round in 0..rounds + WARM_UP {
        for ((_, request, times), results) in cases.iter().zip(&mut results) {
            for turn in 0..workers {
                let index = (turn + round as usize) % workers;
                let [ticks] = running[index].ask_numbers::<u64, 1>(&format!("{request} {times}"))?;
                if round >= WARM_UP {
                    results[index].push(ticks as f64 * tick_ns / f64::from(*times) / 1000.0);
                }
            }
        }
    }

    let columns = ["what", "configuration", "min µs", "p10 µs", "median µs", "more than host, µs"];
    let mut rows = Vec::new();
    for ((name, _, _), results) in cases.iter().zip(&results) {
        for (worker, result) in running.iter().zip(results) {
            let us = Sorted::new(result.iter().copied());
            let more = Sorted::new(result.iter().zip(&results[0]).map(|(round, host)| round - host)).median();
            let mut row = vec![Cell::text(*name), Cell::text(worker.configuration.name())];
            row.extend([us.min(), us.quantile(0.1), us.median()].map(|us| Cell::Number(us, 1)));
            row.push(if worker.configuration == Configuration::Host { Cell::Nothing } else { Cell::Number(more, 1) });
            rows.push(row);
        }
    }
    notes.insert(
        0,
        format!("{rounds} rounds of {STARTS} starts (posix_spawn, exec, exit, wait) or {FAILURES} failing calls"),
    );
    notes.insert(
        1,
        "the workers take turns; a member and its supervisor may use two processors (`taskset -c 0` gives them one)"
            .to_owned(),
    );
    notes.insert(
        2,
        "more than host: median of the rounds' differences from the host's time in the same round".to_owned(),
    );
    Ok(vec![Table { title: "Starting programs".to_owned(), columns: columns.map(str::to_owned).to_vec(), rows, notes }])
}

/// Compiled programs in a directory of their own, which goes with the value.
struct Programs {
    directory: PathBuf,
    dynamic: std::result::Result<PathBuf, String>,
    fixed: std::result::Result<PathBuf, String>,
}

impl Programs {
    fn compile() -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("elsewhen-bench-{}", std::process::id()));
        std::fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let source = directory.join("nothing.c");
        // From here on, dropping removes the directory.
        let mut programs = Self { directory, dynamic: Err(String::new()), fixed: Err(String::new()) };
        std::fs::write(&source, SOURCE)?;
        programs.dynamic = compile(&source, &programs.directory.join("dynamic"), &[]);
        programs.fixed = compile(&source, &programs.directory.join("static"), &["-static"]);
        Ok(programs)
    }

    fn missing(&self) -> PathBuf {
        self.directory.join("missing")
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        // What cannot be removed is a small directory in the one for temporary files.
        _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn compile(source: &Path, program: &Path, flags: &[&str]) -> std::result::Result<PathBuf, String> {
    let output = Command::new("cc").args(flags).arg("-O2").arg("-o").arg(program).arg(source).output();
    let output = output.map_err(|error| format!("cc: {error}"))?;
    if output.status.success() {
        return Ok(program.to_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(format!("cc: {}", message.lines().last().unwrap_or("failed")))
}
