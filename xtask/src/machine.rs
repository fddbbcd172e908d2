//! One run of QEMU: output streamed, time bounded, nothing left behind.

use crate::arch::Platform;
use crate::tools;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The line after which output is that of the script.
pub(crate) const BEGIN: &str = "xtask-vm: begin";
/// What stands before the script's exit status, in the last line.
pub(crate) const STATUS: &str = "xtask-vm: status ";

/// How long a machine may take to switch itself off.
const SWITCHING_OFF: Duration = Duration::from_secs(10);

/// The kernel's own arguments on every machine: an end where it fails, and few words.
const KERNEL_ARGUMENTS: &str = "panic=-1 quiet";

/// A machine that can be started.
pub(crate) struct Machine {
    pub(crate) qemu: PathBuf,
    pub(crate) platform: Platform,
    pub(crate) kernel: PathBuf,
    /// Arguments for the kernel besides those of every machine.
    pub(crate) append: String,
    pub(crate) memory: u32,
    pub(crate) cpus: u32,
}

impl Machine {
    /// Starts the machine, shows what its script writes, and returns the script's exit status.
    pub(crate) fn run(&self, files: &[u8], bound: Duration) -> Result<u8, String> {
        // A file without a name: QEMU finds it by its descriptor, and nobody has to remove it.
        let initramfs =
            memfd_create("initramfs", MemfdFlags::empty()).map_err(|error| format!("create a file: {error}"))?;
        let mut initramfs = File::from(initramfs);
        initramfs.write_all(files).map_err(|error| format!("write the machine's first files: {error}"))?;

        let deadline = Instant::now() + bound;
        let mut running = Running::new(&mut self.command(&initramfs)?)?;
        let mut before = Vec::new();
        let status = loop {
            let line = match running.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(explained(
                        &before,
                        &format!("the machine was stopped: not ended after {} s", bound.as_secs()),
                    ));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = running.end(Instant::now() + SWITCHING_OFF)?;
                    return Err(explained(&before, &format!("the machine ended without a result ({status})")));
                }
            };
            if before.last().is_none_or(|last| last != BEGIN) {
                before.push(line);
            } else if let Some(status) = line.strip_prefix(STATUS) {
                break status.parse().map_err(|_| format!("the machine told {status:?} for a status"))?;
            } else {
                show(&line);
            }
        };
        // What is not off by then is stopped.
        let _ = running.end(Instant::now() + SWITCHING_OFF);
        Ok(status)
    }

    fn command(&self, initramfs: &File) -> Result<Command, String> {
        // QEMU dies with this process, however that comes to its end.
        let mut command = tools::find("setpriv", "util-linux")?;
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.qemu);
        command.args(["-accel", "tcg,thread=multi"]).args(self.platform.machine);
        command.arg("-smp").arg(self.cpus.to_string()).arg("-m").arg(self.memory.to_string());
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(format!("/proc/self/fd/{}", initramfs.as_raw_fd()));
        let arguments = format!("{KERNEL_ARGUMENTS} {} {}", self.platform.kernel_arguments, self.append);
        command.arg("-append").arg(arguments).arg("-no-reboot");
        command.args(["-nodefaults", "-display", "none", "-monitor", "none", "-serial", "stdio"]);
        command.args(["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"]);
        command.stdout(Stdio::piped());
        Ok(command)
    }
}

/// A started machine, which is stopped when the value goes.
struct Running {
    child: Child,
    output: Receiver<String>,
}

impl Running {
    fn new(command: &mut Command) -> Result<Self, String> {
        let mut child = command.spawn().map_err(|error| format!("start QEMU: {error}"))?;
        let stdout = child.stdout.take().expect("its output is piped");
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            while let Some(line) = line(&mut stdout) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, output })
    }

    /// Waits for the end of QEMU.
    fn end(&mut self, deadline: Instant) -> Result<ExitStatus, String> {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
                Ok(None) => return Err("QEMU has closed its output, but does not end".to_owned()),
                Err(error) => return Err(format!("wait for QEMU: {error}")),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of the serial console, without its end; `None` behind the last one.
fn line(from: &mut BufReader<impl Read>) -> Option<String> {
    let mut bytes = Vec::new();
    match from.read_until(b'\n', &mut bytes) {
        Ok(length) if length > 0 => Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned()),
        _ => None,
    }
}

/// Passes a line on, at once. A reader that has gone has read enough.
fn show(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// An error, behind what the machine wrote before its script began, where it never did.
fn explained(before: &[String], error: &str) -> String {
    match before.last() {
        Some(last) if last == BEGIN => error.to_owned(),
        _ => format!("{error}; it wrote:\n{}", before.join("\n")),
    }
}
