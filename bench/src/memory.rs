//! Private memory of members, by mapping. Mirrors `/proc/PID/smaps` of `proc_pid_smaps(5)`.

use crate::Result;
use crate::configuration::Configuration;
use crate::report::{Cell, Table};
use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the sleepers sleep, should nobody end them.
const SLEEP: &str = "60";

/// Sizes in KiB.
#[derive(Clone, Copy, Default)]
struct Size {
    private: u64,
    proportional: u64,
    resident: u64,
}

/// Sizes by name and permissions of a mapping.
type Mappings = BTreeMap<String, Size>;

/// Compares `sleep` on the host with the only member of a namespace, and with one of two.
pub(crate) fn run(elsewhen: &Path) -> Result<Vec<Table>> {
    let program = Path::new("/bin/sleep");
    // Two on the host, so that the program's own pages are shared in every column.
    let mut family = Family(Vec::new());
    let native = [family.start(Command::new(program).arg(SLEEP))?, family.start(Command::new(program).arg(SLEEP))?];
    let alone = family.start(Configuration::Offset.command(elsewhen, program).arg(SLEEP))?;
    let script = format!("sleep {SLEEP} & sleep {SLEEP} & wait");
    let two = family.start(Configuration::Offset.command(elsewhen, Path::new("/bin/sh")).args(["-c", &script]))?;

    let native = sleepers(native[0], 1)?[0];
    let member = sleepers(alone, 1)?[0];
    let pair = sleepers(two, 2)?;
    // What starts a program also lets it go; give both time to end.
    sleep(Duration::from_millis(300));
    let columns = [mappings(native)?, mappings(member)?, mappings(pair[0])?];
    let own = descendants(alone).into_iter().filter(|pid| *pid != member).map(own_process).collect::<Result<_>>()?;
    drop(family);

    let mut names: Vec<&String> = columns.iter().flat_map(BTreeMap::keys).collect();
    names.sort();
    names.dedup();
    let size = |column: usize, name: &str| columns[column].get(name).copied().unwrap_or_default();
    let mut rows = Vec::new();
    for name in names {
        let sizes = [size(0, name), size(1, name), size(2, name)];
        if name.contains("elsewhen") || name.contains("vdso") || sizes.iter().any(|s| s.private != sizes[0].private) {
            rows.push(row(name, sizes));
        }
    }
    rows.push(row("all mappings", columns.each_ref().map(total)));

    let notes = vec![
        format!(
            "`sleep` on the host, as the only member of a namespace, and as one of two members besides a shell: `{}`",
            Configuration::Offset.prefix().join(" ")
        ),
        "private: Private_Clean and Private_Dirty of /proc/PID/smaps; a page in two processes is private to neither"
            .to_owned(),
        "shown: the vDSO, what elsewhen adds, and every mapping with another private size than on the host".to_owned(),
        "the stack differs by a page from run to run, because its address is random".to_owned(),
    ];
    let columns =
        ["mapping", "host, private KiB", "only member", "one of two", "only member - host", "one of two - host"];
    let member =
        Table { title: "Memory of a member".to_owned(), columns: columns.map(str::to_owned).to_vec(), rows, notes };
    let columns = ["process", "private KiB", "proportional KiB", "resident KiB"];
    let notes = vec![
        "while a second namespace runs, with processes of its own, that shares the program's pages".to_owned(),
        "proportional and resident: Pss and Rss of /proc/PID/smaps".to_owned(),
    ];
    let namespace = Table {
        title: "Memory of a namespace's own processes".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: own,
        notes,
    };
    Ok(vec![member, namespace])
}

/// The row of a process that is no member.
fn own_process(pid: u32) -> Result<Vec<Cell>> {
    let size = total(&mappings(pid)?);
    let mut row = vec![Cell::text(read_to_string(format!("/proc/{pid}/comm"))?.trim())];
    row.extend([size.private, size.proportional, size.resident].map(|size| Cell::Number(size as f64, 0)));
    Ok(row)
}

fn row(name: &str, sizes: [Size; 3]) -> Vec<Cell> {
    let [host, alone, pair] = sizes.map(|size| size.private as f64);
    let mut row = vec![Cell::text(name)];
    row.extend([host, alone, pair, alone - host, pair - host].map(|size| Cell::Number(size, 0)));
    row
}

fn total(mappings: &Mappings) -> Size {
    mappings.values().fold(Size::default(), |sum, size| Size {
        private: sum.private + size.private,
        proportional: sum.proportional + size.proportional,
        resident: sum.resident + size.resident,
    })
}

fn mappings(pid: u32) -> Result<Mappings> {
    let mut mappings = Mappings::new();
    let mut name = String::new();
    for line in read_to_string(format!("/proc/{pid}/smaps"))?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [field, size, "kB"] => {
                let entry = mappings.entry(name.clone()).or_default();
                match field {
                    "Private_Clean:" | "Private_Dirty:" => entry.private += size.parse::<u64>()?,
                    "Rss:" => entry.resident += size.parse::<u64>()?,
                    "Pss:" => entry.proportional += size.parse::<u64>()?,
                    _ => {}
                }
            }
            // Addresses, permissions, offset, device, inode and the file's name, if there is one.
            [_, permissions, _, _, _, ref path @ ..] if permissions.len() == 4 => {
                let path = path.first().map_or("anonymous", |path| path.rsplit('/').next().unwrap_or(path));
                name = format!("{path} {permissions}");
            }
            _ => {}
        }
    }
    Ok(mappings)
}

/// Waits until a process or its descendants are so many sleeping `sleep`s.
fn sleepers(ancestor: u32, count: usize) -> Result<Vec<u32>> {
    let started = Instant::now();
    loop {
        let mut found = descendants(ancestor);
        found.retain(|pid| is_sleeper(*pid));
        if found.len() == count {
            return Ok(found);
        }
        if started.elapsed() > Duration::from_secs(10) {
            return Err(format!("{} instead of {count} programs sleep below process {ancestor}", found.len()).into());
        }
        sleep(Duration::from_millis(10));
    }
}

/// Whether a process executes `sleep` and is in its wait; `clock_nanosleep` is call 230, `nanosleep` 35.
fn is_sleeper(pid: u32) -> bool {
    let program = read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let call = read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    program.trim() == "sleep" && matches!(call.split(' ').next(), Some("230" | "35"))
}

/// A process and its descendants; those that end meanwhile may be missing.
fn descendants(ancestor: u32) -> Vec<u32> {
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found
}

/// Processes that end with this value, and their descendants with them.
struct Family(Vec<Child>);

impl Family {
    fn start(&mut self, command: &mut Command) -> Result<u32> {
        // Without files of a locale, whose pages are private or not depending on who else has read them.
        let child = command
            .env("LC_ALL", "C")
            .spawn()
            .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        let pid = child.id();
        self.0.push(child);
        Ok(pid)
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // The sleepers first: their supervisors and shells end when they do. Whatever has ended already is done.
            for pid in descendants(child.id()).into_iter().rev().filter(|pid| is_sleeper(*pid)) {
                if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
                    _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                }
            }
            _ = child.wait();
        }
    }
}
