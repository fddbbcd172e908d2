//! `elsewhen-oci install ENGINE`: makes an engine know this program as the runtime `elsewhen`; `uninstall` takes that back.
//!
//! Only what is ours in the engine's configuration is touched: a file of its own, a key, or a block between two marks.

use elsewhen::{Error, Result};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const USAGE: &str =
    "usage: elsewhen-oci install podman [--default] | docker | containerd [--config FILE]; uninstall likewise";
/// Around what is ours in a file that is somebody else's.
const MARKS: [&str; 2] = ["# elsewhen begin", "# elsewhen end"];

/// Carries out `install` or `uninstall`, and returns what is left to be done.
///
/// # Errors
/// Where the arguments are none of these, or the configuration cannot be read, understood or written.
pub(crate) fn install(arguments: &[OsString]) -> Result<String> {
    let arguments: Vec<&str> = arguments.iter().map(|argument| argument.to_str().unwrap_or_default()).collect();
    let program =
        std::env::current_exe().map_err(|error| Error::other(format!("find this program's path: {error}")))?;
    let program = program.to_str().ok_or_else(|| Error::other("this program's path is no text"))?;
    match arguments[..] {
        ["install", "podman"] => podman(Some(&podman_conf(program, false))),
        ["install", "podman", "--default"] => podman(Some(&podman_conf(program, true))),
        ["uninstall", "podman"] => podman(None),
        ["install", "docker"] => docker(Some(program)),
        ["uninstall", "docker"] => docker(None),
        ["install", "containerd"] => containerd(CONTAINERD, Some(program)),
        ["install", "containerd", "--config", file] => containerd(file, Some(program)),
        ["uninstall", "containerd"] => containerd(CONTAINERD, None),
        ["uninstall", "containerd", "--config", file] => containerd(file, None),
        _ => Err(Error::other(USAGE)),
    }
}

/// The file of podman's that is ours: `containers.conf.d` of the machine, or of the user.
fn podman(conf: Option<&str>) -> Result<String> {
    let folder = if elsewhen_linux::process::user() == 0 {
        PathBuf::from("/etc/containers")
    } else {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || absolute("HOME").map(|home| home.join(".config"));
        let config = absolute("XDG_CONFIG_HOME").or_else(home);
        config.ok_or_else(|| Error::other("neither HOME nor XDG_CONFIG_HOME is set"))?.join("containers")
    };
    let path = folder.join("containers.conf.d/elsewhen.conf");
    match conf {
        Some(conf) => write(&path, conf)?,
        None => remove(&path)?,
    }
    Ok(match conf {
        Some(conf) if conf.contains("runtime =") => {
            format!(
                "{}: every container of podman is started by elsewhen, in its own time where an annotation asks for it",
                path.display()
            )
        }
        Some(_) => format!("{}: podman knows --runtime elsewhen", path.display()),
        None => format!("{}: removed", path.display()),
    })
}

fn podman_conf(program: &str, by_default: bool) -> String {
    let default = if by_default { "[engine]\nruntime = \"elsewhen\"\n\n" } else { "" };
    format!(
        "# Made by elsewhen-oci install podman.\n{default}[engine.runtimes]\nelsewhen = [{}]\n",
        Value::from(program)
    )
}

/// The key of docker's configuration that is ours.
fn docker(program: Option<&str>) -> Result<String> {
    const PATH: &str = "/etc/docker/daemon.json";
    if program.is_none() && !Path::new(PATH).exists() {
        return Ok(format!("{PATH}: there is none"));
    }
    let text = read(Path::new(PATH))?;
    write(
        Path::new(PATH),
        &docker_config(&text, program).map_err(|reason| Error::other(format!("{PATH}: {reason}")))?,
    )?;
    Ok(format!("{PATH}: written; docker reads it at `systemctl reload docker`"))
}

fn docker_config(text: &str, program: Option<&str>) -> std::result::Result<String, String> {
    let mut config: Value = if text.trim().is_empty() {
        json!({})
    } else {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    };
    let object = config.as_object_mut().ok_or("not an object")?;
    let runtimes = object.entry("runtimes").or_insert_with(|| json!({}));
    let runtimes = runtimes.as_object_mut().ok_or("\"runtimes\" is not an object")?;
    match program {
        Some(program) => drop(runtimes.insert("elsewhen".into(), json!({ "path": program }))),
        None => drop(runtimes.remove("elsewhen")),
    }
    if runtimes.is_empty() {
        object.remove("runtimes");
    }
    Ok(format!("{config:#}\n"))
}

const CONTAINERD: &str = "/etc/containerd/config.toml";

/// The block of containerd's configuration that is ours.
fn containerd(path: &str, program: Option<&str>) -> Result<String> {
    if program.is_none() && !Path::new(path).exists() {
        return Ok(format!("{path}: there is none"));
    }
    let text = read(Path::new(path))?;
    let config = containerd_config(&text, program).map_err(|reason| Error::other(format!("{path}: {reason}")))?;
    write(Path::new(path), &config)?;
    let imports = config.parse::<toml::Table>().is_ok_and(|config| config.contains_key("imports"));
    let warning = if imports && program.is_some() {
        "; a file that it imports takes its place where that has runtimes too: see that `containerd config dump` has this one"
    } else {
        ""
    };
    Ok(format!(
        "{path}: written; containerd reads it at `systemctl restart containerd`, which ends no container{warning}"
    ))
}

fn containerd_config(text: &str, program: Option<&str>) -> std::result::Result<String, String> {
    let mut others = without_block(text)?;
    let Some(program) = program else { return Ok(others) };
    if others.trim().is_empty() {
        others = "version = 2\n".into();
    }
    let config: toml::Table = others.parse().map_err(|error: toml::de::Error| error.message().replace('\n', " "))?;
    let plugin = match config.get("version").and_then(toml::Value::as_integer) {
        Some(2) => "io.containerd.grpc.v1.cri",
        Some(3) => "io.containerd.cri.v1.runtime",
        _ => return Err("neither version 2 nor 3; `containerd config migrate` makes it one".into()),
    };
    let runtimes = config.get("plugins").and_then(|plugins| plugins.get(plugin)?.get("containerd")?.get("runtimes"));
    if runtimes.is_some_and(|runtimes| runtimes.get("elsewhen").is_some()) {
        return Err("there is a runtime elsewhen already, which was not made by this command".into());
    }
    // The kubelet's containers must all be under one manager of cgroups.
    let is_systemd =
        runtimes.and_then(|runtimes| runtimes.get("runc")?.get("options")?.get("SystemdCgroup")?.as_bool());
    let systemd = if is_systemd == Some(true) { "    SystemdCgroup = true\n" } else { "" };
    // What a file says of runtimes stands in place of all that containerd has of its own, and without its default one it does not start
    // the plugin.
    let runtimes_path = format!("plugins.\"{plugin}\".containerd.runtimes");
    let of_containerd = if runtimes.is_none() {
        format!("[{runtimes_path}.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n")
    } else {
        String::new()
    };
    let [begin, end] = MARKS;
    let runtime = format!("{runtimes_path}.elsewhen");
    let with = format!(
        "{}\n\n{begin}: made by elsewhen-oci install containerd\n{of_containerd}[{runtime}]\n  \
         runtime_type = \"io.containerd.runc.v2\"\n  pod_annotations = [\"org.elsewhen.*\"]\n  \
         container_annotations = [\"org.elsewhen.*\"]\n  [{runtime}.options]\n    BinaryName = {}\n{systemd}{end}\n",
        others.trim_end(),
        Value::from(program),
    );
    match with.parse::<toml::Table>() {
        Ok(_) => Ok(with),
        // As where it has the tables in braces.
        Err(error) => Err(format!("nothing can be added to it ({})", error.message().replace('\n', " "))),
    }
}

/// A text without the lines between the marks.
fn without_block(text: &str) -> std::result::Result<String, String> {
    let mut kept = String::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with(MARKS[0]) {
            inside = true;
            if kept.ends_with("\n\n") {
                kept.pop();
            }
        } else if inside {
            inside = !line.starts_with(MARKS[1]);
        } else {
            kept += line;
            kept.push('\n');
        }
    }
    if inside { Err(format!("{:?} has no {:?}", MARKS[0], MARKS[1])) } else { Ok(kept) }
}

fn read(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(|error| Error::other(format!("read {}: {error}", path.display()))),
    }
}

/// Replaces a file as a whole.
fn write(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("elsewhen-new");
    let folder = path.parent().unwrap_or(Path::new("/"));
    let done = fs::create_dir_all(folder).and_then(|()| fs::write(&new, text)).and_then(|()| {
        if let Ok(before) = fs::metadata(path) {
            fs::set_permissions(&new, before.permissions())?;
        }
        fs::rename(&new, path)
    });
    done.map_err(|error| Error::other(format!("write {}: {error}", path.display())))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::other(format!("remove {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_keeps_what_it_had() {
        let with = docker_config(r#"{ "debug": true, "runtimes": { "kata": { "path": "/k" } } }"#, Some("/x")).unwrap();
        let config: Value = serde_json::from_str(&with).unwrap();
        let both = json!({ "kata": { "path": "/k" }, "elsewhen": { "path": "/x" } });
        assert_eq!(config, json!({ "debug": true, "runtimes": both }));
        assert_eq!(docker_config(&with, Some("/x")).unwrap(), with);
        let without = docker_config(&docker_config("", Some("/x")).unwrap(), None).unwrap();
        assert_eq!(without, "{}\n");
        assert!(docker_config("[]", Some("/x")).is_err());
    }

    #[test]
    fn containerd_keeps_what_it_had() {
        let before = "version = 2\n# theirs\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n  SystemdCgroup = true\n";
        let with = containerd_config(before, Some("/x")).unwrap();
        let config: toml::Table = with.parse().unwrap();
        let runtime = &config["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["runtimes"]["elsewhen"];
        assert_eq!(runtime["options"]["BinaryName"].as_str(), Some("/x"));
        assert_eq!(runtime["options"]["SystemdCgroup"].as_bool(), Some(true));
        assert_eq!(runtime["pod_annotations"][0].as_str(), Some("org.elsewhen.*"));
        assert_eq!(containerd_config(&with, Some("/x")).unwrap(), with);
        assert_eq!(containerd_config(&with, None).unwrap(), before);
        let newer = containerd_config("version = 3\n", Some("/x")).unwrap();
        let config: toml::Table = newer.parse().unwrap();
        let runtimes = config["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"].as_table().unwrap();
        assert_eq!(
            runtimes.keys().collect::<Vec<_>>(),
            ["elsewhen", "runc"],
            "where nothing is said, runc is containerd's own"
        );
        assert_eq!(containerd_config(&newer, None).unwrap(), "version = 3\n");
        let own = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  default_runtime_name = \"crun\"\n\
                   [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.crun]\n";
        assert!(!containerd_config(own, Some("/x")).unwrap().contains("runc]"));
        let braces =
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  containerd = { snapshotter = \"native\" }\n";
        for bad in [braces, "version = 1\n", "oom_score = 0\n", "version = ", "version = 2\n# elsewhen begin\n"] {
            assert!(containerd_config(bad, Some("/x")).is_err(), "{bad}");
        }
    }

    #[test]
    fn podman_is_told_the_path_as_a_string() {
        let conf: toml::Table = podman_conf("/a \"b\"", true).parse().unwrap();
        assert_eq!(conf["engine"]["runtimes"]["elsewhen"][0].as_str(), Some("/a \"b\""));
        assert_eq!(conf["engine"]["runtime"].as_str(), Some("elsewhen"));
        let conf: toml::Table = podman_conf("/x", false).parse().unwrap();
        assert!(conf["engine"].get("runtime").is_none());
    }
}
