//! The machine a report comes from.

use crate::Result;
use std::fs::read_to_string;
use std::path::Path;
use std::process::Command;

/// Name and value of what a reader must know to compare numbers of a program.
pub(crate) fn facts(elsewhen: &Path) -> Result<Vec<(&'static str, String)>> {
    let version = Command::new(elsewhen).arg("--version").output()?;
    let mut facts = of_the_machine()?;
    facts.insert(3, ("measured", String::from_utf8_lossy(&version.stdout).trim().to_owned()));
    Ok(facts)
}

/// Machine, kernel, clock source and command.
pub(crate) fn of_the_machine() -> Result<Vec<(&'static str, String)>> {
    let cpuinfo = read_to_string("/proc/cpuinfo")?;
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
        line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
    };
    let flag = |name: &str| field("flags").split(' ').any(|flag| flag == name);
    let kernel = rustix::system::uname();
    let clocksource = read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")?;
    let mut machine = format!("{}, {} CPUs", field("model name"), std::thread::available_parallelism()?);
    if flag("hypervisor") {
        machine.push_str(", virtual");
    }
    let mut clocksource = clocksource.trim().to_owned();
    if !(flag("constant_tsc") && flag("nonstop_tsc")) {
        clocksource.push_str("; the time stamp counter changes its pace here, so times are unreliable");
    }
    Ok(vec![
        ("machine", machine),
        ("kernel", format!("{} {}", kernel.sysname().to_string_lossy(), kernel.release().to_string_lossy())),
        ("clock source", clocksource),
        ("command", command_line()),
    ])
}

/// The command line without the directories of this machine.
fn command_line() -> String {
    let arguments = std::env::args().skip(1).map(|argument| match Path::new(&argument).file_name() {
        Some(name) if argument.starts_with('/') => format!("…/{}", name.to_string_lossy()),
        _ => argument,
    });
    let arguments: Vec<String> = arguments.collect();
    format!("`cargo run --release --manifest-path bench/Cargo.toml -- {}`", arguments.join(" "))
}
