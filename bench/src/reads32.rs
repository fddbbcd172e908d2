//! Nanoseconds per call of the clock functions in a 32-bit program.

use crate::Result;
use crate::counter;
use crate::report::{Cell, Table};
use crate::statistics::Sorted;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Rounds that are thrown away.
const WARM_UP: u32 = 10;
/// The program that reads.
const SOURCE: &str = include_str!("../guests/reads32.c");
/// The calls, and how many of them are made where a round has one.
const CALLS: [(&str, f64); 5] =
    [("realtime", 1.0), ("monotonic", 1.0), ("gettimeofday", 1.0), ("time", 1.0), ("system-call", 0.01)];
/// The builds: their names and the compiler's arguments.
const BUILDS: [(&str, &[&str]); 2] =
    [("32-bit time_t", &[]), ("64-bit time_t", &["-D_TIME_BITS=64", "-D_FILE_OFFSET_BITS=64"])];
/// The ways to run: their names and what stands before the program. The base of ratios is first.
const WAYS: [(&str, &[&str]); 3] = [
    ("host", &[]),
    ("offset", &["run", "--quiet", "--offset", "1d", "--"]),
    ("rate", &["run", "--quiet", "--adjustable", "--rate", "2", "--"]),
];

/// Measures all calls in all ways, in turns.
pub(crate) fn run(elsewhen: &Path, rounds: u32, calls: u32) -> Result<Vec<Table>> {
    let mut rows = Vec::new();
    for (build, arguments) in BUILDS {
        let program = match Program::compile(arguments) {
            Ok(program) => program,
            Err(error) => return Ok(vec![table(rows, vec![format!("skipped: {error}")])]),
        };
        let guests = WAYS.map(|(_, prefix)| Guest::start(elsewhen, prefix, &program.path));
        let mut guests = guests.into_iter().collect::<Result<Vec<_>>>()?;
        let tick_ns = counter::tick_ns();
        for (call, share) in CALLS {
            let count = ((f64::from(calls) * share) as u32).max(1);
            let mut results = vec![Vec::new(); WAYS.len()];
            for round in 0..rounds + WARM_UP {
                for turn in 0..WAYS.len() {
                    // Each is as often first as it is last.
                    let index = (turn + round as usize) % WAYS.len();
                    let ns = guests[index].go(call, count)? as f64 * tick_ns / f64::from(count);
                    if round >= WARM_UP {
                        results[index].push(ns);
                    }
                }
            }
            let mut row = vec![Cell::text(build), Cell::text(call)];
            for (index, result) in results.iter().enumerate() {
                row.push(Cell::Number(Sorted::new(result.iter().copied()).median(), 1));
                if index > 0 {
                    let ratios = result.iter().zip(&results[0]).map(|(one, host)| one / host);
                    row.push(Cell::Number(Sorted::new(ratios).median(), 3));
                }
            }
            rows.push(row);
        }
    }
    let mut notes = vec![format!("{rounds} rounds of {calls} calls through libc; the programs take turns")];
    notes.push("ns: median of rounds; ratio: median of the rounds' ratios to the host in the same round".to_owned());
    notes.push("system-call: clock_gettime by syscall(2), a hundredth of the calls".to_owned());
    let ways = WAYS.iter().filter(|(_, prefix)| !prefix.is_empty());
    notes.extend(ways.map(|(name, prefix)| format!("{name}: `elsewhen {}`", prefix.join(" "))));
    Ok(vec![table(rows, notes)])
}

fn table(rows: Vec<Vec<Cell>>, notes: Vec<String>) -> Table {
    let mut columns = vec!["program".to_owned(), "call".to_owned()];
    for (index, (name, _)) in WAYS.iter().enumerate() {
        columns.push(format!("{name}, ns"));
        if index > 0 {
            columns.push(format!("{name}, ratio"));
        }
    }
    Table { title: "Reading clocks in 32-bit programs".to_owned(), columns, rows, notes }
}

/// The compiled guest in a directory of its own, which goes with the value.
struct Program {
    directory: PathBuf,
    path: PathBuf,
}

impl Program {
    fn compile(arguments: &[&str]) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("elsewhen-bench-reads32-{}", std::process::id()));
        std::fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        // From here on, dropping removes the directory.
        let program = Self { path: directory.join("reads32"), directory };
        let source = program.directory.join("reads32.c");
        std::fs::write(&source, SOURCE)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-m32", "-O2", "-o"]).arg(&program.path).arg(&source).args(arguments);
        let output = compiler.output().map_err(|error| format!("cc: {error}"))?;
        if !output.status.success() {
            return Err(format!("cc -m32: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(program)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the folder.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A running guest.
struct Guest {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Guest {
    fn start(elsewhen: &Path, prefix: &[&str], program: &Path) -> Result<Self> {
        let mut command = match prefix {
            [] => Command::new(program),
            _ => {
                let mut command = Command::new(elsewhen);
                command.args(prefix).arg(program);
                command
            }
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let (to, from) = to.zip(from).ok_or("the guest has no standard streams")?;
        Ok(Self { child, to, from: BufReader::new(from) })
    }

    /// The ticks that so many calls take.
    fn go(&mut self, call: &str, count: u32) -> Result<u64> {
        writeln!(self.to, "{call} {count}")?;
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        Ok(line.trim().parse().map_err(|_| format!("the guest answered {line:?}"))?)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Either has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
