//! `docs/SURFACE.md` says what the surface table says.
//!
//! With `ELSEWHEN_WRITE_DOCS` set the test writes the page instead of comparing it.

use elsewhen_vdso::surface::{Action, Need, ROWS, Row, Rule, Test};
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
move; `given` that a pointer is not null; arguments count from 0. Numbers are those of x86-64.

| number | call | caught | what is done |
|---|---|---|---|
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
    format!("| {} | `{}` | {refused}{} | {} |\n", row.number, row.name, rules.join("; "), row.note)
}

#[test]
fn the_page_about_the_surface_says_what_the_table_says() {
    let mut page = HEAD.to_owned();
    for row in ROWS {
        page.write_str(&line(row)).expect("strings take everything");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/SURFACE.md");
    if std::env::var_os("ELSEWHEN_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/SURFACE.md is out of date; see its head for how to write it");
}
