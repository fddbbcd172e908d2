//! What the program does: it reads as much of what the engine asks as it must, and then becomes the other runtime
//! (`execve(2)`), with every argument, descriptor and variable as they came.

use crate::agent::{self, Setting, Task};
use crate::bundle::Bundle;
use crate::config::{self, Config};
use crate::containers::{self, Key};
use crate::install::install;
use crate::invocation::Invocation;
use crate::timens;
use elsewhen::{Error, Inheritance, Result, execute_launcher};
use elsewhen_linux::process;
use serde_json::Value;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

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
    let config = Config::path(&mut arguments);
    let invocation = Invocation::of(&arguments);
    let failed = Config::read(config).and_then(|config| {
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
        // What is no id is the runtime's to refuse.
        let key = invocation.id.as_ref().and_then(|id| Key::new(invocation.root.as_deref(), id).ok());
        let led = match (invocation.command.as_str(), key) {
            ("create" | "run", Some(key)) => self.create(invocation, &key),
            ("restore", Some(key)) => self.restore(invocation, &key),
            ("exec", Some(key)) => self.exec(invocation, &key),
            ("delete", Some(key)) => {
                // The runtime may find that it cannot delete it: an agent cleans up when the container has ended. Where none can be
                // started, what stays is cleaned up when a container of this id begins.
                let _ = agent::reach(&self.setting(&key), &|| self.bundle_of(invocation, &key));
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
    fn create(&mut self, invocation: &Invocation, key: &Key) -> Result<()> {
        let bundle = bundle(invocation)?.filter(|bundle| !bundle.is_sandbox());
        let request = bundle.as_ref().map_or(Ok(None), Bundle::request)?;
        let Some((mut bundle, request)) = bundle.zip(request) else {
            agent::clear(key, &|| self.bundle_of(invocation, key));
            return Ok(());
        };
        if let Some(reason) = config::refusal_of(&self.path) {
            return Err(Error::other(reason));
        }
        let kernel = request.kernel;
        if kernel.is_some() {
            timens::check(&self.path)?;
        }
        let named = request.named(key)?;
        let name = bundle.name_in_pod().or_else(|| name_at_engine(&bundle, &key.id));
        let Some(folder) = agent::own_folder(key, &|| self.bundle_of(invocation, key))? else {
            return Err(Error::other(format!("container {:?} exists already", key.id)));
        };
        if let Some(offsets) = kernel
            && let Err(error) = bundle.add_kernel_namespace(offsets)
        {
            folder.remove()?;
            return Err(error);
        }
        let task = Task::Create { named, name, bundle: bundle.absolute(), kernel };
        let socket = agent::start(&self.setting(key), folder, task)?;
        Err(execute_launcher(socket, &mut self.command))
    }

    /// A container from a checkpoint: its processes would come back without anyone to supervise them.
    fn restore(&self, invocation: &Invocation, key: &Key) -> Result<()> {
        match bundle(invocation)?.map_or(Ok(None), |bundle| bundle.request())? {
            Some(_) => Err(Error::other(format!(
                "container {} cannot be restored into a time of its own: start it anew",
                key.id
            ))),
            None => {
                agent::clear(key, &|| self.bundle_of(invocation, key));
                Ok(())
            }
        }
    }

    /// Another process in a container.
    fn exec(&mut self, invocation: &Invocation, key: &Key) -> Result<()> {
        let socket = agent::reach(&self.setting(key), &|| self.bundle_of(invocation, key))?;
        let Some(socket) = socket else { return Ok(()) };
        Err(execute_launcher(socket, &mut self.command))
    }

    /// The bundle of the runtime's container of an id, where it has one.
    fn bundle_of(&self, invocation: &Invocation, key: &Key) -> Option<PathBuf> {
        let mut state = Command::new(&self.path);
        if let Some(root) = &invocation.root {
            state.arg("--root").arg(root);
        }
        let output = state.args(["state", &key.id]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        let state: Value = serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())?;
        state["bundle"].as_str().map(PathBuf::from)
    }

    fn setting<'a>(&'a self, key: &'a Key) -> Setting<'a> {
        Setting { key, log: self.config.log.clone(), inherited: &self.inherited }
    }
}

/// The configuration of the container that is to be made; `None` where there is none, which is the runtime's to say.
fn bundle(invocation: &Invocation) -> Result<Option<Bundle>> {
    Bundle::read(invocation.bundle.as_deref().unwrap_or(Path::new(".")), invocation.config.as_deref())
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
        serde_json::from_slice::<Value>(&std::fs::read(config).ok()?).ok()
    })?;
    beside["Name"].as_str().map(|name| name.trim_start_matches('/').to_owned())
}
