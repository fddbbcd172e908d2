//! Namespaces as tables and as JSON.

use crate::args::{List, Show, Target, Watch};
use crate::namespaces::{self, offset};
use crate::{NOTHING, fail, print, request};
use elsewhen::{ClockStatus, Status, Timestamp};
use elsewhen_linux::process;
use elsewhen_oci::containers::{self, Container};
use serde_json::{Value, json};
use std::fmt::Write;
use std::io::IsTerminal;
use std::process::ExitCode;

const COLUMNS: [&str; 8] = ["NAME", "CONTAINER", "MEMBERS", "REALTIME", "OFFSET", "RATE", "PID", "COMMAND"];

/// `elsewhen ls`
pub(crate) fn list(list: &List) -> ExitCode {
    let mut columns = match columns(list.columns.as_deref()) {
        Ok(columns) => columns,
        Err(message) => return fail(&message),
    };
    let all = match Listed::all() {
        Ok(all) => all,
        Err(error) => return fail(&error.to_string()),
    };
    if list.columns.is_none() && all.iter().all(|listed| listed.container.is_none()) {
        columns.retain(|column| *column != "CONTAINER");
    }
    if list.json {
        let rows: Vec<Value> = all.iter().map(|listed| json_row(listed, &columns)).collect();
        return print(format!("{:#}\n", json!({ "namespaces": rows })).as_bytes());
    }
    print(table(&all, &columns, !list.noheadings).as_bytes())
}

fn columns(asked: Option<&str>) -> Result<Vec<&'static str>, String> {
    let Some(asked) = asked else { return Ok(COLUMNS.to_vec()) };
    let known = |name: &str| COLUMNS.into_iter().find(|column| column.eq_ignore_ascii_case(name.trim()));
    let unknown = |name: &str| format!("there is no column {name:?}; there are {}", COLUMNS.join(", "));
    asked.split(',').map(|name| known(name).ok_or_else(|| unknown(name))).collect()
}

/// A namespace, and the container that has it.
struct Listed {
    status: Status,
    container: Option<Container>,
}

impl Listed {
    fn all() -> elsewhen::Result<Vec<Self>> {
        let containers = containers::all()?;
        let of = |status: Status| Self { container: container_of(&containers, &status), status };
        Ok(Status::all()?.into_iter().map(of).collect())
    }
}

fn container_of(containers: &[Container], status: &Status) -> Option<Container> {
    containers.iter().find(|container| container.namespace == status.name && !status.name.is_empty()).cloned()
}

/// What people call a container, or as much of its id as engines show.
fn shown(container: &Container) -> String {
    container.name.clone().unwrap_or_else(|| container.key.id.chars().take(12).collect())
}

fn cell(Listed { status, container }: &Listed, column: &str) -> String {
    match column {
        "CONTAINER" => container.as_ref().map_or("-".into(), shown),
        "NAME" if status.name.is_empty() => "-".into(),
        "NAME" => status.name.clone(),
        "MEMBERS" => status.members.len().to_string(),
        "REALTIME" => date(status.clocks[0].member_ns),
        "OFFSET" => seconds(offset(status)),
        "RATE" => rate(&status.clocks[0]),
        "PID" => status.members.first().map_or("-".into(), u32::to_string),
        _ => status.members.first().map_or("-".into(), |pid| process::command_of(*pid)),
    }
}

fn json_row(listed: &Listed, columns: &[&str]) -> Value {
    let status = &listed.status;
    let value = |column: &str| match column {
        "CONTAINER" => json!(listed.container.as_ref().map(container_json)),
        "NAME" => json!((!status.name.is_empty()).then_some(&status.name)),
        "MEMBERS" => json!(status.members.len()),
        "OFFSET" => json!(offset(status) as f64 / 1e9),
        "RATE" => json!(status.clocks[0].rate),
        "PID" => json!(status.members.first()),
        "COMMAND" => json!(status.members.first().map(|pid| process::command_of(*pid))),
        _ => json!(cell(listed, column)),
    };
    Value::Object(columns.iter().map(|column| (column.to_lowercase(), value(column))).collect())
}

fn container_json(container: &Container) -> Value {
    let kernel = container
        .kernel
        .map(|offsets| json!({ "monotonic_ns": offsets.monotonic_ns, "boottime_ns": offsets.boottime_ns }));
    json!({ "id": container.key.id, "name": container.name, "agent": container.agent, "kernel_offsets": kernel })
}

/// Columns as wide as their widest cell; the last is not padded.
fn table(all: &[Listed], columns: &[&str], headings: bool) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    if headings {
        rows.push(columns.iter().map(|column| (*column).to_owned()).collect());
    }
    rows.extend(all.iter().map(|listed| columns.iter().map(|column| cell(listed, column)).collect()));
    let widths: Vec<usize> =
        (0..columns.len()).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += cells.join(" ").trim_end();
        text.push('\n');
    }
    text
}

/// `elsewhen show`
pub(crate) fn show(show: &Show) -> ExitCode {
    let Target { target, container } = &show.target;
    let found = match target.parse() {
        Ok(pid) if !container => Status::of_member(pid),
        _ => namespaces::open(&show.target).map(|namespace| Some(namespace.status())),
    };
    let status = match found {
        Ok(Some(status)) => status,
        Ok(None) => {
            if show.json {
                print(b"null\n");
            }
            eprintln!("elsewhen: process {target} is in no namespace: its time is the host's");
            return ExitCode::from(NOTHING);
        }
        Err(error) => return fail(&error.to_string()),
    };
    // One that cannot be looked up is no reason to say nothing of the clocks.
    let container = container_of(&containers::all().unwrap_or_default(), &status);
    let listed = Listed { status, container };
    if show.json { print(format!("{:#}\n", as_json(&listed)).as_bytes()) } else { print(as_text(&listed).as_bytes()) }
}

fn as_json(Listed { status, container }: &Listed) -> Value {
    let clock = |clock: &ClockStatus| {
        let ahead = clock.ahead.map(|(ns, rate)| json!({ "in": ns as f64 / 1e9, "rate": rate }));
        let value = json!({
            "host": clock.host_ns as f64 / 1e9,
            "member": clock.member_ns as f64 / 1e9,
            "host_ns": clock.host_ns,
            "member_ns": clock.member_ns,
            "offset_ns": clock.offset_ns(),
            "rate": clock.rate,
            "frozen": clock.rate == 0.0,
            "change_ahead": ahead,
        });
        (clock.family.name().to_owned(), value)
    };
    let members: Vec<Value> =
        status.members.iter().map(|pid| json!({ "pid": pid, "command": process::command_of(*pid) })).collect();
    json!({
        "name": (!status.name.is_empty()).then_some(&status.name),
        "realtime": date(status.clocks[0].member_ns),
        "clocks": status.clocks.iter().map(clock).collect::<serde_json::Map<_, _>>(),
        "prepared_for": prepared(status),
        "settable": status.settable,
        "files": if status.files_follow { "follow" } else { "real" },
        "members": members,
        "container": container.as_ref().map(container_json),
    })
}

/// The changes that members are prepared for.
fn prepared(status: &Status) -> Vec<String> {
    let mut names = vec!["realtime".to_owned()];
    names.extend(status.adjustable.iter().map(|family| family.name().to_owned()));
    if status.rate_adjustable {
        names.push("rate".into());
    }
    names
}

fn as_text(Listed { status, container }: &Listed) -> String {
    let mut text = format!("name       {}\n", if status.name.is_empty() { "-" } else { &status.name });
    if let Some(container) = container {
        let _ = writeln!(text, "container  {} ({}), agent {}", shown(container), container.key.id, container.agent);
        if let Some(offsets) = container.kernel {
            let _ = writeln!(text, "kernel     {} more, by a time namespace of the kernel's", offsets.shown());
        }
        for line in container.log() {
            let _ = writeln!(text, "log        {line}");
        }
    }
    for clock in &status.clocks {
        let reading =
            if clock.family == elsewhen::Family::Realtime { date(clock.member_ns) } else { plain(clock.member_ns) };
        let _ = write!(
            text,
            "{:10} {reading}  {} from the host, {}",
            clock.family.name(),
            seconds(clock.offset_ns()),
            words(clock)
        );
        if let Some((ns, rate)) = clock.ahead {
            let _ = write!(text, ", in {:.3} s rate {}", ns as f64 / 1e9, short(rate));
        }
        text.push('\n');
    }
    let _ = writeln!(text, "prepared   {}", prepared(status).join(", "));
    let _ = writeln!(text, "settable   {}", if status.settable { "yes" } else { "no" });
    let _ = writeln!(text, "files      {}", if status.files_follow { "follow" } else { "real" });
    let _ = writeln!(text, "members    {}", status.members.len());
    for pid in &status.members {
        let _ = writeln!(text, "  {pid:7}  {}", process::command_of(*pid));
    }
    text
}

/// `elsewhen watch`
pub(crate) fn watch(watch: &Watch) -> ExitCode {
    let interval = match request::positive("--interval", &watch.interval) {
        Ok(interval) if !interval.is_zero() => interval,
        Ok(_) => return fail("--interval: 0 is no time between two looks"),
        Err(error) => return fail(&error.to_string()),
    };
    let on_terminal = std::io::stdout().is_terminal();
    let mut looks = 0;
    loop {
        let found = match watch.names.is_empty() {
            true => Listed::all(),
            false => watch
                .names
                .iter()
                .map(|name| Ok(Listed { status: namespaces::open_named(name)?.status(), container: None }))
                .collect(),
        };
        let all = match found {
            Ok(all) => all,
            Err(error) => return fail(&error.to_string()),
        };
        let mut text = String::new();
        if on_terminal {
            // Home, and clear to the end.
            text += "\x1b[H\x1b[J";
        }
        text += &table(&all, &["NAME", "MEMBERS", "REALTIME", "OFFSET", "RATE"], on_terminal || looks == 0);
        let _ = print(text.as_bytes());
        looks += 1;
        if watch.count.is_some_and(|count| looks >= count) {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(interval);
    }
}

/// RFC 3339 with milliseconds, in UTC.
fn date(ns: i64) -> String {
    let ms = ns.div_euclid(1_000_000);
    Timestamp::from_millisecond(ms).map_or_else(|_| plain(ns), |date| format!("{date:.3}"))
}

fn plain(ns: i64) -> String {
    format!("{:.3} s", ns as f64 / 1e9)
}

fn seconds(ns: i64) -> String {
    format!("{:+.3}s", ns as f64 / 1e9)
}

fn rate(clock: &ClockStatus) -> String {
    if clock.rate == 0.0 { "frozen".into() } else { short(clock.rate) }
}

fn words(clock: &ClockStatus) -> String {
    if clock.rate == 0.0 { "frozen".into() } else { format!("rate {}", short(clock.rate)) }
}

/// As few digits as tell it from others, at most nine.
fn short(rate: f64) -> String {
    let text = format!("{rate:.9}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
