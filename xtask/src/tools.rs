//! The host's programs: each is looked for before it is run, and comes with the package that has it.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Where a program is; otherwise which package of Debian has it.
pub(crate) fn path(program: &str, package: &str) -> Result<PathBuf, String> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("there is no {program}; install the package {package}"))
}

/// A program, to be given arguments; with nothing to read.
pub(crate) fn find(program: &str, package: &str) -> Result<Command, String> {
    let mut command = Command::new(path(program, package)?);
    command.stdin(Stdio::null());
    Ok(command)
}

/// What a program writes to standard output, where it succeeds.
pub(crate) fn bytes(command: &mut Command) -> Result<Vec<u8>, String> {
    let shown = shown(command);
    let Output { status, stdout, .. } =
        command.stderr(Stdio::inherit()).output().map_err(|error| format!("{shown}: {error}"))?;
    if status.success() { Ok(stdout) } else { Err(format!("{shown}: {status}")) }
}

/// The same as text.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    Ok(String::from_utf8_lossy(&bytes(command)?).into_owned())
}

/// Runs a program, which must succeed.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    bytes(command).map(drop)
}

/// A command as an error names it.
fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
