//! `cargo xtask vm`: the tests, or a command, on another kernel.
//!
//! The machine's root is the host's, read-only, with a file system in memory laid over it. So the tests find the programs
//! that they use, the build's output and their sources where they are on the host, and nothing has to be installed.

use crate::initramfs::Archive;
use crate::kernel::Kernel;
use crate::machine::{self, Machine};
use crate::{Arch, Vm, tools};
use elsewhen_image::elf::{Elf, PT_INTERP};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The first process of the machine: reaches the host's files, and lets the script run among them.
const INIT: &str = include_str!("init.sh");

/// Runs what was asked for, and returns its exit status.
pub(crate) fn run(vm: &Vm) -> Result<u8, String> {
    if vm.arch == Arch::Arm64 {
        return Err("there is no machine for arm64, since elsewhen has no port to it yet".to_owned());
    }
    let workspace = workspace()?;
    let qemu = tools::path("qemu-system-x86_64", "qemu-system-x86")?;
    let busybox = busybox()?;
    let kernel = Kernel::get(&vm.kernel, &workspace.target.join("vm"))?;
    let script = match &vm.command {
        Some(command) => {
            tools::run(cargo().args(["build", "--quiet", "--package", "elsewhen-cli"]).current_dir(&workspace.root))?;
            command.clone()
        }
        None => {
            let words = [test_binary(&workspace.root)?.into_os_string()];
            let words = words.iter().chain(&vm.tests).chain(&vm.options);
            words.map(quoted).collect::<Result<Vec<_>, _>>()?.join(" ")
        }
    };

    let mut files = Archive::new();
    for folder in ["bin", "modules", "proc", "sys", "dev", "host", "memory", "root"] {
        files.folder(folder);
    }
    files.file("bin/busybox", &busybox);
    for (number, module) in kernel.modules()?.iter().enumerate() {
        files.file(&format!("modules/{number:02}.ko"), module);
    }
    let init = INIT
        .replace("@BOUND@", &vm.timeout.as_secs().to_string())
        .replace("@BEGIN@", machine::BEGIN)
        .replace("@STATUS@", machine::STATUS);
    files.file("init", init.as_bytes());
    files.file("script", format!("{}{script}\n", surroundings(&workspace.root, vm.cpus)?).as_bytes());

    eprintln!("xtask: Linux {} with {} processors and {} MiB", kernel.release, vm.cpus, vm.memory);
    let machine = Machine { qemu, kernel: kernel.image, memory: vm.memory, cpus: vm.cpus };
    machine.run(&files.finish(), vm.timeout)
}

/// Where the workspace is, and where its builds go.
struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

fn workspace() -> Result<Workspace, String> {
    let metadata = tools::bytes(
        cargo().args(["metadata", "--no-deps", "--format-version=1"]).current_dir(env!("CARGO_MANIFEST_DIR")),
    )?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&metadata).map_err(|error| format!("read what cargo metadata says: {error}"))?;
    let path = |key: &str| {
        metadata[key].as_str().map(PathBuf::from).ok_or_else(|| format!("cargo metadata does not say the {key}"))
    };
    Ok(Workspace { root: path("workspace_root")?, target: path("target_directory")? })
}

/// The cargo that runs this.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.stdin(Stdio::null());
    cargo
}

/// Builds the behaviour tests, and says where they are.
fn test_binary(root: &Path) -> Result<PathBuf, String> {
    let build = [
        "test",
        "--no-run",
        "--quiet",
        "--package=elsewhen-cli",
        "--test=it",
        "--message-format=json-render-diagnostics",
    ];
    let messages = tools::output(cargo().args(build).current_dir(root))?;
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut tests =
        artifacts.filter(|artifact| artifact["target"]["name"] == "it" && artifact["profile"]["test"] == true);
    tests
        .find_map(|artifact| artifact["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| "cargo test --no-run does not say where the tests are".to_owned())
}

/// What a shell needs before it can run what was asked for, as it would run here.
fn surroundings(root: &Path, cpus: u32) -> Result<String, String> {
    let mut lines = String::new();
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            lines += &format!("export {name}={}\n", quoted(&value)?);
        }
    }
    Ok(format!(
        "{lines}export RUST_TEST_THREADS={cpus} RUST_BACKTRACE=1\ncd {} || exit 125\n",
        quoted(root.as_os_str())?
    ))
}

/// A word as the shell reads it back.
fn quoted(word: impl AsRef<OsStr>) -> Result<String, String> {
    let word = word.as_ref();
    let text = word.to_str().ok_or_else(|| format!("{} is not UTF-8", OsString::from(word).display()))?;
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// The one program of the machine until it has the host's.
fn busybox() -> Result<Vec<u8>, String> {
    let path = tools::path("busybox", "busybox-static")?;
    let bytes = fs::read(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
    let dynamic = Elf::x86_64(&bytes).is_none_or(|elf| elf.segments().any(|segment| segment.kind == PT_INTERP));
    if dynamic {
        return Err(format!("{} needs libraries; install the package busybox-static", path.display()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_whatever_it_contains() {
        assert_eq!(quoted("guests::").as_deref(), Ok("'guests::'"));
        assert_eq!(quoted("it's $HOME").as_deref(), Ok(r"'it'\''s $HOME'"));
    }
}
