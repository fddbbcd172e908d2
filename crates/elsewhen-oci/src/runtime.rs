//! What the program does: it reads as much of what the engine asks as it must, and then becomes the other runtime
//! (`execve(2)`), with every argument, descriptor and variable as they came.

use crate::agent::{self, Setting, Task};
use crate::bundle::Bundle;
use crate::config::{self, Config};
use crate::containers::{self, Folder};
use crate::install::install;
use crate::invocation::Invocation;
use crate::timens;
use elsewhen::{Error, Inheritance, Result, execute_launcher};
use elsewhen_linux::process;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Runs `elsewhen-oci`. Returns only where the other runtime could not be executed, having said why.
pub fn run() -> ExitCode {
    let inherited = process::inherited_descriptors();
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let own_name = if arguments.is_empty() { None } else { Some(arguments.remove(0)) };
    if arguments.first().is_some_and(|first| first == "install" || first == "uninstall") {
        return match install(&arguments) {
            Ok(done) => {
                println!("{done}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("elsewhen-oci: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let mut invocation = Invocation::default();
    let failed = Config::read(&mut arguments).and_then(|config| {
        invocation = Invocation::of(&arguments);
        let path = config.runtime(own_name.as_deref())?;
        let mut command = Command::new(&path);
        command.args(&arguments);
        Ok(Runtime { path, command, config, inherited }.become_it(&invocation))
    });
    let error = failed.unwrap_or_else(|error| error);
    eprintln!("elsewhen-oci: {error}");
    if let Some(log) = &invocation.log {
        // Engines show the last error that is in it.
        let message = format!("elsewhen-oci: {error}");
        let _ = if invocation.log_is_json {
            containers::append_json(log, &message)
        } else {
            containers::append(log, &message)
        };
    }
    ExitCode::FAILURE
}

/// The runtime that this process becomes.
struct Runtime {
    path: PathBuf,
    command: Command,
    config: Config,
    /// Descriptors that are the engine's.
    inherited: Vec<i32>,
}

impl Runtime {
    /// Returns only where that is not to be or cannot be: the reason.
    fn become_it(mut self, invocation: &Invocation) -> Error {
        let led = match (invocation.command.as_str(), &invocation.id) {
            ("create" | "run", Some(id)) => self.create(invocation, id),
            ("restore", Some(id)) => self.restore(invocation, id),
            ("exec", Some(id)) => self.exec(id),
            ("delete", Some(id)) => {
                forget(id);
                Ok(())
            }
            _ => Ok(()),
        };
        match led {
            Ok(()) => self.pass(),
            Err(error) => error,
        }
    }

    /// Executes the runtime with nothing added.
    fn pass(mut self) -> Error {
        Inheritance::of_this_process().give_to(&mut self.command);
        let error = self.command.exec();
        Error::other(format!("cannot run {}: {error}", self.path.display()))
    }

    /// A new container. Returns without an error where it asks for nothing.
    fn create(&mut self, invocation: &Invocation, id: &str) -> Result<()> {
        let folder = invocation.bundle.as_deref().unwrap_or(Path::new("."));
        // What is wrong with a bundle is the runtime's to say.
        let Ok(mut bundle) = Bundle::read(folder, invocation.config.as_deref()) else { return Ok(()) };
        if bundle.is_sandbox() {
            return Ok(());
        }
        let Some(request) = bundle.request()? else { return Ok(()) };
        if let Some(reason) = config::refusal_of(&self.path) {
            return Err(Error::other(reason));
        }
        let kernel = request.kernel;
        if let Some(offsets) = kernel {
            timens::check(&self.path)?;
            bundle.add_kernel_namespace(offsets)?;
        }
        let (spec, namespace) = request.named(id)?;
        let name = bundle.name_in_pod().or_else(|| name_at_engine(&bundle, id));
        let socket = agent::start(self.setting(id), Task::Create { spec, namespace, name, kernel })?;
        Err(execute_launcher(socket, &mut self.command))
    }

    /// A container from a checkpoint: its processes would come back without anyone to supervise them.
    fn restore(&self, invocation: &Invocation, id: &str) -> Result<()> {
        let folder = invocation.bundle.as_deref().unwrap_or(Path::new("."));
        let Ok(bundle) = Bundle::read(folder, invocation.config.as_deref()) else { return Ok(()) };
        match bundle.request()? {
            Some(_) => {
                Err(Error::other(format!("container {id} cannot be restored into a time of its own: start it anew")))
            }
            None => Ok(()),
        }
    }

    /// Another process in a container.
    fn exec(&mut self, id: &str) -> Result<()> {
        let Some(folder) = Folder::of(id) else { return Ok(()) };
        let Some(record) = folder.record() else { return Ok(()) };
        let socket = match folder.connect() {
            Some(socket) => socket,
            None => {
                let agent = record.agent;
                if let Some(log) = &self.config.log {
                    agent::note_in(log, id, &format!("the agent, process {agent}, has died; another one is started"));
                }
                agent::start(self.setting(id), Task::Revive(record))?
            }
        };
        Err(execute_launcher(socket, &mut self.command))
    }

    fn setting<'a>(&'a self, id: &'a str) -> Setting<'a> {
        Setting { id, log: self.config.log.clone(), inherited: &self.inherited }
    }
}

/// Removes what an agent that has died has left of a container. One that lives does so itself.
fn forget(id: &str) {
    if let Some(folder) = Folder::of(id)
        && let Ok(_lock) = folder.lock()
        && folder.connect().is_none()
    {
        folder.record().iter().for_each(agent::remove_namespace);
        folder.remove();
    }
}

/// What people call a container at podman, whose monitor is our parent and is told so, or at docker, which has a file with it
/// beside those that it mounts.
fn name_at_engine(bundle: &Bundle, id: &str) -> Option<String> {
    let parent = std::fs::read(format!("/proc/{}/cmdline", std::os::unix::process::parent_id())).ok()?;
    let arguments: Vec<&str> =
        parent.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok()).collect();
    let is_monitor = arguments.first().is_some_and(|program| program.ends_with("conmon"));
    if is_monitor && let Some(at) = arguments.iter().position(|argument| *argument == "-n") {
        return arguments.get(at + 1).map(|name| (*name).to_owned());
    }
    let beside = bundle.mount_sources().find_map(|source| {
        let folder = source.parent().filter(|folder| folder.file_name().is_some_and(|name| name == id))?;
        let config = folder.join("config.v2.json");
        serde_json::from_slice::<serde_json::Value>(&std::fs::read(config).ok()?).ok()
    })?;
    beside["Name"].as_str().map(|name| name.trim_start_matches('/').to_owned())
}
