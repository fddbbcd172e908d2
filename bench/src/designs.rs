//! The designs of the kernel list's debate about time namespaces in the vDSO, side by side, beside the kernel's own.

#![expect(unsafe_code, reason = "enters in every design, which takes that no other thread is in the image")]

pub(crate) mod measure;
pub(crate) mod order;
mod plot;
pub(crate) mod steps;

use crate::Result;
use crate::configuration::{Configuration, Workers};
use crate::counter;
use crate::cycles::Counters;
use crate::machine;
use crate::report::{Cell, Report, Table};
use crate::statistics::Sorted;
use elsewhen_standalone::flavour::{FLAVOURS, Flavour, Switch};
use elsewhen_standalone::load::{self, PageFile, Vdso};
use elsewhen_standalone::timekeeper::{Config, Sample, Timekeeper};
use measure::{Mode, Target};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Clocks that are read, and their names.
const CLOCKS: [(u32, &str); 2] = [(1, "MONOTONIC"), (6, "MONOTONIC_COARSE")];
/// Single calls of a target in a round, where a call is timed alone.
const SINGLE_CALLS: u32 = 20;
/// How far members are.
const OFFSET_SEC: i64 = 86_400;

/// Where reports go.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also write designs.md, designs.json and designs.svg to a directory
    #[arg(long, value_name = "DIRECTORY")]
    write: Option<PathBuf>,
}

/// What was measured of a target, per clock.
struct Measured {
    target: Target,
    /// By clock, by mode, by round: ticks per call.
    ticks: Vec<Vec<Vec<f64>>>,
    /// By clock: instructions of a call, and jumps among them that were taken.
    steps: Vec<Option<steps::Steps>>,
    /// By clock: cycles, instructions and branches per call, where the processor counts them.
    counted: Vec<Option<[f64; 3]>>,
}

/// `bench designs`
pub(crate) fn run(options: &Options, rounds: u32, calls: u32, json: bool) -> Result<()> {
    let page = Arc::new(PageFile::new()?);
    let mut timekeeper = calibrated(Duration::from_millis(300))?;
    let mut notes = Vec::new();
    let facts = machine::of_the_machine()?;
    pin()?;
    let mut measured = Vec::new();
    for flavour in FLAVOURS {
        for member in [false, true] {
            if member && flavour.switch == Switch::Never {
                continue;
            }
            let vdso = Vdso::map(flavour, &page)?;
            CLOCKS.iter().try_for_each(|(clock, _)| vdso.set_offset(*clock, OFFSET_SEC, 0))?;
            timekeeper.publish(&[vdso.data()], load::ticks);
            if member {
                switch(&vdso, true)?;
            }
            measured.push(Measured::new(Target::of(vdso, member)?));
        }
    }
    measured.push(Measured::new(Target::kernel()?));
    let Workers { running, skipped } = Workers::start(&[Configuration::Kernel], &PathBuf::new())?;
    notes.extend(skipped);
    let mut inside = running.into_iter().next();
    if inside.is_some() {
        measured.push(Measured::new(Target::named("the kernel's vDSO", true)));
    }
    let cpu = first_cpu()?;
    if let Some(worker) = &mut inside {
        worker.ask(&format!("pin {cpu}"))?;
    }

    let targets = measured.len();
    for round in 0..rounds as usize {
        // The page is never older than readers go on by.
        let pages: Vec<_> = measured.iter().filter_map(|measured| measured.target.vdso()).map(Vdso::data).collect();
        timekeeper.update(&sample());
        timekeeper.publish(&pages.iter().map(|page| &****page).collect::<Vec<_>>(), load::ticks);
        for (clock, (id, _)) in CLOCKS.iter().enumerate() {
            for (at, mode) in Mode::ALL.into_iter().enumerate() {
                let calls = if mode == Mode::Hot { calls } else { SINGLE_CALLS };
                for turn in 0..targets {
                    let measured = &mut measured[(turn + round) % targets];
                    let ticks = match (&measured.target, &mut inside) {
                        (target, Some(worker)) if target.is_elsewhere() => {
                            let [ticks] =
                                worker.ask_numbers::<f64, 1>(&format!("design {} {id} {calls}", mode.name()))?;
                            ticks
                        }
                        (target, _) => measure::ticks(target, mode, *id, calls),
                    };
                    measured.ticks[clock][at].push(ticks);
                }
            }
        }
    }
    count(&mut measured, &mut timekeeper, calls, &mut notes)?;

    let tick_ns = counter::tick_ns();
    let mut report = Report::new(facts.clone());
    notes.insert(
        0,
        format!(
            "ns per call, medians of {rounds} rounds in which all take turns on one processor; hot: {calls} calls in a loop; the \
             others: {SINGLE_CALLS} calls, each timed alone, timing included; cold: code and data flushed from all caches before \
             each; branches: 16384 branches before each; members are {OFFSET_SEC} s away"
        ),
    );
    notes.push(format!("the timekeeper's largest error against the host's vDSO was {} ns", timekeeper.worst_ns()));
    report.extend(
        CLOCKS.iter().enumerate().map(|(clock, (_, name))| table(clock, name, &measured, tick_ns, &notes)).collect(),
    );
    report.extend(vec![switching(&page, &mut timekeeper, tick_ns)?]);
    if let Some(directory) = &options.write {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("designs.json"), format!("{:#}\n", report.to_json()))?;
        fs::write(
            directory.join("designs.md"),
            format!("# The designs, measured\n\n![plot](designs.svg)\n\n{}", report.to_markdown()),
        )?;
        fs::write(directory.join("designs.svg"), plot::svg(&measured, tick_ns, &facts))?;
    }
    if json {
        println!("{:#}", report.to_json());
    } else {
        print!("{}", report.to_markdown());
    }
    Ok(())
}

impl Measured {
    fn new(target: Target) -> Self {
        let none = || CLOCKS.iter().map(|_| None).collect();
        let ticks = CLOCKS.iter().map(|_| vec![Vec::new(); Mode::ALL.len()]).collect();
        Self { target, ticks, steps: none(), counted: CLOCKS.iter().map(|_| None).collect() }
    }

    /// Median ns per call.
    fn ns(&self, clock: usize, mode: Mode, tick_ns: f64) -> f64 {
        Sorted::new(self.ticks[clock][mode as usize].iter().copied()).median() * tick_ns
    }
}

pub(crate) fn sample() -> Sample {
    Sample::take(load::ticks, load::host_ns, 16)
}

/// A timekeeper that has looked at the host's clocks for some time.
pub(crate) fn calibrated(within: Duration) -> Result<Timekeeper> {
    let first = sample();
    std::thread::sleep(within);
    let config = Config { patience_ns: 8_000_000_000, ..Config::default() };
    Ok(Timekeeper::calibrate(&first, &sample(), config)?)
}

fn first_cpu() -> Result<usize> {
    let allowed = sched_getaffinity(None)?;
    (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu)).ok_or_else(|| "no processor".into())
}

fn pin() -> Result<()> {
    let mut set = CpuSet::new();
    set.set(first_cpu()?);
    Ok(sched_setaffinity(None, &set)?)
}

/// Instructions and branches: by the processor's counters where there are any, and by single steps, which every machine
/// has.
fn count(measured: &mut [Measured], timekeeper: &mut Timekeeper, calls: u32, notes: &mut Vec<String>) -> Result<()> {
    notes.push(
        "instructions, jumps: of one call, counted by single steps (`ptrace(2)`); jumps are those that were taken, calls and \
         returns among them"
            .to_owned(),
    );
    let mut counters = match Counters::open() {
        Ok(counters) => {
            notes.push("cycles and branches: by the processor's counters, in user mode, hot, per call".to_owned());
            Some(counters)
        }
        Err(error) => {
            notes.push(format!(
                "no cycles, as the processor's counters cannot be used: perf_event_open: {error}; times instead"
            ));
            None
        }
    };
    for measured in measured {
        for (clock, (id, _)) in CLOCKS.iter().enumerate() {
            if let Some(vdso) = measured.target.vdso() {
                // One that had no second to carry.
                let mut all = Vec::new();
                for _ in 0..3 {
                    all.push(steps::count(vdso.flavour().name, measured.target.is_member(), *id)?);
                }
                measured.steps[clock] = all.into_iter().min_by_key(|steps| steps.instructions);
            }
            if let (Some(counters), false) = (&mut counters, measured.target.is_elsewhere()) {
                if let Some(vdso) = measured.target.vdso() {
                    timekeeper.publish(&[vdso.data()], load::ticks);
                }
                let before = counters.read()?;
                measure::ticks(&measured.target, Mode::Hot, *id, calls);
                let after = counters.read()?;
                let per_call = |from: u64, to: u64| (to - from) as f64 / f64::from(calls);
                measured.counted[clock] = Some([
                    per_call(before.cycles, after.cycles),
                    per_call(before.instructions, after.instructions),
                    per_call(before.branches, after.branches),
                ]);
            }
        }
    }
    Ok(())
}

/// The table of a clock.
fn table(clock: usize, name: &str, measured: &[Measured], tick_ns: f64, notes: &[String]) -> Table {
    let mut columns: Vec<String> = ["design", "side"].map(str::to_owned).to_vec();
    columns.extend(Mode::ALL.map(|mode| mode.title().to_owned()));
    columns.extend(["ratio to base, hot", "instructions", "jumps"].map(str::to_owned));
    let is_counted = measured.iter().any(|measured| measured.counted[clock].is_some());
    if is_counted {
        columns.extend(["cycles", "branches"].map(str::to_owned));
    }
    let base = &measured[0].ticks[clock][Mode::Hot as usize];
    let rows = measured.iter().map(|measured| {
        let mut row = vec![Cell::text(measured.target.name()), Cell::text(measured.target.side())];
        row.extend(Mode::ALL.map(|mode| Cell::Number(measured.ns(clock, mode, tick_ns), 1)));
        let hot = measured.ticks[clock][Mode::Hot as usize].iter();
        row.push(Cell::Number(Sorted::new(hot.zip(base).map(|(own, base)| own / base)).median(), 3));
        let counted = measured.counted[clock];
        match &measured.steps[clock] {
            Some(steps) => row.extend([steps.instructions, steps.jumps].map(|number| Cell::Number(number as f64, 0))),
            None => row.extend([Cell::Nothing, Cell::Nothing]),
        }
        if is_counted {
            let [cycles, _, branches] = counted
                .map_or([Cell::Nothing, Cell::Nothing, Cell::Nothing], |all| all.map(|number| Cell::Number(number, 1)));
            row.extend([cycles, branches]);
        }
        row
    });
    Table { title: name.to_owned(), columns, rows: rows.collect(), notes: notes.to_vec() }
}

/// Enters or leaves.
pub(crate) fn switch(vdso: &Vdso, member: bool) -> std::io::Result<()> {
    // SAFETY: no other thread calls the image.
    unsafe { vdso.switch_stopped(member) }
}

/// What entering costs, and what a namespace takes.
fn switching(page: &Arc<PageFile>, timekeeper: &mut Timekeeper, tick_ns: f64) -> Result<Table> {
    const TIMES: usize = 2000;
    let columns =
        ["design", "enter ns", "leave ns", "under running threads", "code bytes", "bytes per namespace", "bytes once"];
    let mut rows = Vec::new();
    for flavour in FLAVOURS.iter().filter(|flavour| flavour.switch != Switch::Never) {
        let vdso = Vdso::map(flavour, page)?;
        let mut taken = [Vec::new(), Vec::new()];
        for at in 0..TIMES {
            // Pages change places once in a publication.
            timekeeper.publish(&[vdso.data()], load::ticks);
            let started = load::ticks();
            switch(&vdso, at % 2 == 0)?;
            taken[at % 2].push((load::ticks() - started) as f64 * tick_ns);
        }
        let [enter, leave] = taken.map(|taken| Cell::Number(Sorted::new(taken).median(), 0));
        let (each, once) = memory(flavour, vdso.code().len());
        let safe = if flavour.switch.is_safe() { "yes" } else { "no: all must stand outside" };
        let mut row = vec![Cell::text(flavour.name), enter, leave, Cell::text(safe)];
        row.extend([flavour.text_len, each, once].map(|bytes| Cell::Number(bytes as f64, 0)));
        rows.push(row);
    }
    let notes = [
        format!(
            "medians of {TIMES} switches of a process with one thread; what stopping threads costs comes on top where they must"
        ),
        "code bytes: functions of one image; once: a second image for all namespaces of a machine".to_owned(),
    ];
    Ok(Table {
        title: "Switching".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows,
        notes: notes.to_vec(),
    })
}

/// Bytes of a namespace of its own, and bytes that all share beyond what the host has.
const fn memory(flavour: &Flavour, code: usize) -> (usize, usize) {
    const PAGE: usize = 4096;
    match flavour.switch {
        Switch::Never => (0, 0),
        Switch::FlagOnPage | Switch::Page => (PAGE, 0),
        Switch::FlagInLine => (2 * PAGE, 0),
        Switch::Branch | Switch::Retcall | Switch::Image => (PAGE, code),
    }
}
