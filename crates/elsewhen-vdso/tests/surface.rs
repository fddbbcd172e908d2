//! `docs/SURFACE.md` says what the surface table says.
//!
//! With `ELSEWHEN_WRITE_DOCS` set the test writes the page instead of comparing it. The page has x86-64's order.

#![cfg(target_arch = "x86_64")]

use elsewhen_vdso::surface::{Action, Need, Row, Rule, Test, X32_OWN, rows};
use elsewhen_vdso::surface32::{Kind, ROWS32, Row32};
use std::fmt::Write;
use std::path::Path;

const HEAD: &str = "\
# The surface: system calls that carry time

Written from `crates/elsewhen-vdso/src/surface.rs` by `ELSEWHEN_WRITE_DOCS=1 cargo test -p elsewhen-vdso --test surface`.

A member's call is *caught* where one of the rules in its row holds; then it is answered or translated in the member
itself. Every other call is let through by its number. What a namespace needs to be able to do for a rule:

- **always**: nothing; every namespace can move REALTIME;
- **monotonic**, **boottime**: it was made to move that clock;
- **rate**: it was made to pace MONOTONIC, and with it every relative wait;
- **files**: it was made with `--files follow`.

`--adjustable` stands for all but the last. `clock moved` means: the argument is the id of a clock that the namespace can
move; `given` that a pointer is not null; arguments count from 0. Numbers are those of x86-64, then of arm64.

| x86-64 | arm64 | call | caught | what is done |
|---|---|---|---|---|
";

fn need(need: Need) -> &'static str {
    match need {
        Need::Any => "always",
        Need::Monotonic => "monotonic",
        Need::Boottime => "boottime",
        Need::Rate => "rate",
        Need::Files => "files",
    }
}

fn condition(test: &Test) -> String {
    match *test {
        Test::Bits(arg, u32::MAX, value) => format!("argument {arg} = {value}"),
        Test::Bits(arg, mask, value) => format!("argument {arg} & {mask:#x} = {value:#x}"),
        Test::Given(arg) => format!("argument {arg} given"),
        Test::Positive(arg) => format!("argument {arg} > 0"),
        Test::Moved(arg) => format!("argument {arg}: clock moved"),
    }
}

fn rule(rule: &Rule) -> String {
    let conditions: Vec<String> = rule.tests.iter().map(condition).collect();
    match conditions.is_empty() {
        true => need(rule.need).to_owned(),
        false => format!("{}: {}", need(rule.need), conditions.join(", ")),
    }
}

fn line(row: &Row) -> String {
    let rules: Vec<String> = row.rules.iter().map(rule).collect();
    let refused = if row.action == Action::Refuse { "refused " } else { "" };
    let arm64 = if row.arm64 == "_" { "" } else { row.arm64 };
    format!("| {} | {arm64} | `{}` | {refused}{} | {} |\n", row.number, row.name, rules.join("; "), row.note)
}

const HEAD_X32: &str = "
## The x32 interface

A call of an x32 program has the number above with 0x40000000 added, and is what the native call is. These have numbers of their
own, with that added, and structures with addresses of 32 bits:

| number | taken for |
|---|---|
";

const HEAD_32: &str = "
## The 32-bit interface

A 32-bit program's call is taken for the 64-bit one that means the same, and is caught and translated as that is. Numbers are
those of i386 (`int 0x80`, `sysenter`). A 64-bit program that makes a caught one gets ENOSYS.

| number | call | taken for | what differs |
|---|---|---|---|
";

fn line_32(row: &Row32) -> String {
    let kind = row.shape.kind();
    let words = row.shape.read().or(row.shape.written()).map_or(0, |(_, words)| words);
    let differs = match (row.number, kind) {
        (25, _) => "the time is in 32-bit seconds",
        (82, _) => "the arguments are in memory; a `timeval` of 32-bit words",
        (102, _) => "`setsockopt`, `getsockopt` and `recvmmsg`, with the arguments in memory",
        (117, _) => "`semtimedop`, with the arguments in another order; a `timespec` of 32-bit words",
        (142, _) => "taken for `pselect6`; a `timeval` of 32-bit words",
        (174, _) => "a `struct sigaction` of 32-bit words",
        (_, Kind::Refused) => "refused with ENOSYS",
        (_, Kind::Timex) => "a `struct timex` of 32-bit words",
        (_, Kind::Stat) => "the structure; seconds are of 32 bits",
        (_, Kind::Option) => "the old options have a `timeval` of 32-bit words",
        (_, Kind::Own) if row.native != 99 => "other structures, which the kernel reads",
        _ if row.shape.is_wide() => "upper halves of nanoseconds are padding",
        _ if words > 0 => "times of 32-bit words",
        _ => "nothing",
    };
    format!("| {} | `{}` | `{}` | {differs} |\n", row.number, row.name, row.row().name)
}

#[test]
fn the_page_about_the_surface_says_what_the_table_says() {
    let mut page = HEAD.to_owned();
    for row in rows() {
        page.write_str(&line(row)).expect("strings take everything");
    }
    page += HEAD_X32;
    for (own, native) in X32_OWN {
        let row = rows().find(|row| row.number == native).expect("of the surface");
        page.write_str(&format!("| {own} | `{}` |\n", row.name)).expect("strings take everything");
    }
    page += HEAD_32;
    for row in ROWS32 {
        page.write_str(&line_32(row)).expect("strings take everything");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/SURFACE.md");
    if std::env::var_os("ELSEWHEN_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/SURFACE.md is out of date; see its head for how to write it");
}
