//! What the configuration of a container asks for: annotations `org.elsewhen.*`, and variables `ELSEWHEN_*` of its
//! environment, where engines have no annotations.

use crate::containers::{Key, place};
use crate::timens::KernelOffsets;
use elsewhen::spec::Texts;
use elsewhen::{Clocks, Error, Family, Result, Spec};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Before the names of settings in annotations.
const ANNOTATION: &str = "org.elsewhen.";
/// Before the names of settings, in capitals, in the environment.
const VARIABLE: &str = "ELSEWHEN_";
/// The settings.
const KEYS: [&str; 9] = ["at", "offset", "rate", "freeze", "name", "settable", "adjustable", "files", "timens"];
/// The longest name of a namespace.
const NAME_MAX: usize = 32;

/// A container's configuration (`config.json`).
#[derive(Debug)]
pub(crate) struct Bundle {
    config: Value,
    path: PathBuf,
    folder: PathBuf,
}

impl Bundle {
    /// Reads it, from the bundle's folder or from where it is said to be. `None` where that cannot be done and it says nothing of
    /// a time of its own.
    ///
    /// # Errors
    /// Where it does, and so that would be lost.
    pub(crate) fn read(folder: &Path, config: Option<&Path>) -> Result<Option<Self>> {
        let path = config.map_or_else(|| folder.join("config.json"), Path::to_owned);
        let Ok(bytes) = fs::read(&path) else { return Ok(None) };
        // As lenient as runtimes are: what is no UTF-8 is replaced, and what stands behind the object is ignored.
        let text = String::from_utf8_lossy(&bytes);
        match serde_json::Deserializer::from_str(&text).into_iter().next() {
            Some(Ok(config)) => Ok(Some(Self { config, folder: folder.to_owned(), path })),
            Some(Err(error)) if [ANNOTATION, VARIABLE].iter().any(|prefix| text.contains(prefix)) => {
                Err(Error::other(format!("read {}: {error}", path.display())))
            }
            _ => Ok(None),
        }
    }

    /// Its folder.
    pub(crate) fn absolute(&self) -> PathBuf {
        std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone())
    }

    /// Writes it back, with a time namespace of the kernel's.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn add_kernel_namespace(&mut self, offsets: KernelOffsets) -> Result<()> {
        offsets.put_into(&mut self.config);
        fs::write(&self.path, self.config.to_string())
            .map_err(|error| Error::other(format!("write {}: {error}", self.path.display())))
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.config["annotations"][key].as_str()
    }

    fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let variables = self.config["process"]["env"].as_array().into_iter().flatten();
        variables.filter_map(|variable| variable.as_str()?.split_once('='))
    }

    /// Whether it is the container that only holds the namespaces of a pod.
    pub(crate) fn is_sandbox(&self) -> bool {
        let keys = ["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"];
        keys.iter().any(|key| self.annotation(key) == Some("sandbox"))
    }

    /// The name by which a pod knows it.
    pub(crate) fn name_in_pod(&self) -> Option<String> {
        let keys = ["io.kubernetes.cri.container-name", "io.kubernetes.container.name"];
        keys.iter().find_map(|key| self.annotation(key)).map(str::to_owned)
    }

    /// Where its files are mounted from.
    pub(crate) fn mount_sources(&self) -> impl Iterator<Item = &Path> {
        let mounts = self.config["mounts"].as_array().into_iter().flatten();
        mounts.filter_map(|mount| mount["source"].as_str().map(Path::new))
    }

    /// What it asks for; `None` where that is nothing.
    ///
    /// # Errors
    /// Where it asks for something that there is not: one line.
    pub(crate) fn request(&self) -> Result<Option<Request>> {
        let annotations = self.config["annotations"].as_object().into_iter().flatten();
        let annotations = annotations
            .filter_map(|(key, value)| Some((key.strip_prefix(ANNOTATION)?.to_owned(), key.clone(), value.as_str()?)));
        let variables = self
            .variables()
            .filter_map(|(name, value)| Some((name.strip_prefix(VARIABLE)?.to_lowercase(), name.to_owned(), value)));
        let mut settings = Settings::default();
        // The annotation, which says more clearly who is meant, goes before the variable.
        for (key, place, value) in annotations.chain(variables) {
            let Some(key) = KEYS.into_iter().find(|known| *known == key) else {
                return Err(Error::other(format!("{place}: there is no such setting; there are {}", KEYS.join(", "))));
            };
            // As a variable that a compose file leaves empty.
            if !value.trim().is_empty() && settings.get(key).is_none() {
                settings.0.push((key, place, value.trim()));
            }
        }
        if settings.0.is_empty() {
            return Ok(None);
        }
        self.check()?;
        settings.request().map(Some)
    }

    /// Refuses what could not be entered.
    fn check(&self) -> Result<()> {
        if let Some(handler) = self.annotation("run.oci.handler") {
            return Err(Error::other(format!(
                "the handler {handler} (run.oci.handler) executes no program to be entered"
            )));
        }
        let filters = &self.config["linux"]["seccomp"];
        let notifies = |filter: &Value| filter["action"].as_str() == Some("SCMP_ACT_NOTIFY");
        let mut filters = filters["syscalls"].as_array().into_iter().flatten().chain([filters]);
        if filters.any(|filter| notifies(filter) || filter["defaultAction"].as_str() == Some("SCMP_ACT_NOTIFY")) {
            return Err(Error::other("the container's seccomp profile has a listener, and Linux allows one only"));
        }
        let root = self.folder.join(self.config["root"]["path"].as_str().unwrap_or_default());
        let host = place(fs::metadata("/"));
        let mounts = self.config["mounts"].as_array().into_iter().flatten();
        // What is mounted there comes in its place.
        let over =
            mounts.filter(|mount| mount["destination"].as_str().is_some_and(|to| Path::new(to) == Path::new("/")));
        let over = over.filter_map(|mount| mount["source"].as_str().map(|source| self.folder.join(source)));
        if over.chain([root]).any(|root| place(fs::metadata(root)) == host) {
            return Err(Error::other(
                "the container's root is the host's, by which its programs cannot be told from the host's",
            ));
        }
        Ok(())
    }
}

/// The settings of a container: key, where it stands, value.
#[derive(Debug, Default)]
struct Settings<'a>(Vec<(&'static str, String, &'a str)>);

impl<'a> Settings<'a> {
    fn get(&self, key: &str) -> Option<(&str, &'a str)> {
        self.0.iter().find(|setting| setting.0 == key).map(|(_, place, value)| (place.as_str(), *value))
    }

    /// A list, separated by commas.
    fn list(&self, key: &str) -> Vec<&'a str> {
        self.get(key).map(|(_, value)| value.split(',').map(str::trim).collect()).unwrap_or_default()
    }

    fn is_set(&self, key: &str) -> Result<bool> {
        match self.get(key) {
            None | Some((_, "false" | "0" | "no")) => Ok(false),
            Some((_, "true" | "1" | "yes")) => Ok(true),
            Some((place, value)) => Err(Error::other(format!("{place}: {value:?} is neither true nor false"))),
        }
    }

    fn request(&self) -> Result<Request> {
        let freeze = match self.get("freeze") {
            Some((_, "false" | "no")) => vec![],
            // Realtime, as of `elsewhen run --freeze`.
            Some((_, "true" | "yes")) => vec!["realtime"],
            _ => self.list("freeze"),
        };
        let texts = Texts {
            at: self.get("at").map(|(_, value)| value),
            offset: self.list("offset"),
            rate: self.list("rate"),
            freeze,
        };
        let place = |key: &str| self.get(key).map_or(format!("{ANNOTATION}{key}"), |(place, _)| place.to_owned());
        let asked = texts.read(place).map_err(|error| Error::other(error.to_string()))?;
        let mut spec = asked.spec;
        let kernel = if self.is_set("timens")? { Some(self.kernels(&texts, asked.paced, place)?) } else { None };
        let kernel = kernel.map(|(kernel, rest)| {
            spec = rest;
            kernel
        });
        if self.is_set("adjustable")? {
            spec = spec.adjustable();
        }
        if self.is_set("settable")? {
            spec = spec.settable();
        }
        match self.get("files") {
            None | Some((_, "real")) => {}
            Some((_, "follow")) => spec = spec.files_follow(),
            Some((place, value)) => return Err(Error::other(format!("{place}: {value:?} is neither real nor follow"))),
        }
        let name = match self.get("name") {
            None => None,
            Some((place, name)) => {
                spec = spec.with_name(name).map_err(|error| Error::other(format!("{place}: {error}")))?;
                Some(name.to_owned())
            }
        };
        Ok(Request { spec, name, kernel })
    }

    /// What a time namespace of the kernel's does of what is asked, and the rest.
    fn kernels(
        &self,
        texts: &Texts<'_>,
        paced: Clocks,
        place: impl Fn(&str) -> String,
    ) -> Result<(KernelOffsets, Spec)> {
        let refused = |reason: &str| Error::other(format!("{}: {reason}", place("timens")));
        if self.is_set("adjustable")? || paced.contains(Family::Monotonic) || paced.contains(Family::Boottime) {
            return Err(refused(
                "a time namespace of the kernel's has fixed offsets of monotonic and boottime, and no rate",
            ));
        }
        let (kernel, rest) = KernelOffsets::split(&texts.offset).map_err(|error| Error::other(error.to_string()))?;
        if kernel == KernelOffsets::default() {
            return Err(refused("neither monotonic nor boottime is given an offset"));
        }
        let texts = Texts { offset: rest.iter().map(String::as_str).collect(), ..texts.clone() };
        let rest = texts.read(place).map_err(|error| Error::other(error.to_string()))?.spec;
        Ok((kernel, rest))
    }
}

/// What a container asks for.
#[derive(Debug)]
pub(crate) struct Request {
    spec: Spec,
    name: Option<String>,
    /// What the runtime is to make of it.
    pub(crate) kernel: Option<KernelOffsets>,
}

impl Request {
    /// The namespace to make, by the name that is asked for; otherwise by one made of the container's id, and where that is taken
    /// by one which also tells the ids of different folders and those apart that begin alike.
    ///
    /// # Errors
    /// Where that is no name.
    pub(crate) fn named(self, key: &Key) -> Result<Vec<(Spec, String)>> {
        let names = match self.name {
            Some(name) => vec![name],
            None => {
                let name = name_of(&key.id);
                let hash = format!("-{:08x}", key.hash() as u32);
                let longer = name[..name.len().min(NAME_MAX - hash.len())].to_owned() + &hash;
                vec![name, longer]
            }
        };
        let named = |name: String| Ok((self.spec.clone().with_name(&name)?, name));
        names.into_iter().map(named).collect::<Result<_>>().map_err(|error| Error::other(error.to_string()))
    }
}

/// A name made of an id: what engines show of it, or as much as a name can have.
fn name_of(id: &str) -> String {
    let is_digest = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let length = if is_digest { 12 } else { NAME_MAX };
    let fit = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = id.chars().take(length).map(fit).collect();
    if name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        name
    } else {
        format!("c{}", &name[..name.len().min(NAME_MAX - 1)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(annotations: Value, env: Value) -> std::result::Result<Option<Request>, String> {
        let config = json!({ "annotations": annotations, "process": { "env": env }, "root": { "path": "rootfs" } });
        Bundle { config, folder: "/nonexistent".into(), path: PathBuf::new() }
            .request()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_asks_for_nothing_is_left_alone() {
        assert!(request(json!(null), json!(null)).unwrap().is_none());
        assert!(request(json!({ "org.example": "1" }), json!(["PATH=/bin", "ELSEWHEN_AT="])).unwrap().is_none());
    }

    #[test]
    fn annotations_and_variables_mean_the_same() {
        let annotated = request(
            json!({ "org.elsewhen.offset": "1h, boottime=2h", "org.elsewhen.settable": "true", "org.elsewhen.name": "lab" }),
            json!([]),
        );
        let variables = json!(["ELSEWHEN_OFFSET=1h,boottime=2h", "ELSEWHEN_SETTABLE=1", "ELSEWHEN_NAME=lab"]);
        let spec = |request: std::result::Result<Option<Request>, String>| {
            request.unwrap().unwrap().named(&Key::new(None, "x").unwrap()).unwrap()
        };
        assert_eq!(spec(annotated), spec(request(json!({}), variables)));
        let both = request(json!({ "org.elsewhen.rate": "2" }), json!(["ELSEWHEN_RATE=3"]));
        assert_eq!(spec(both), spec(request(json!({ "org.elsewhen.rate": "2" }), json!([]))));
    }

    #[test]
    fn bad_settings_are_refused_in_one_line_that_says_where() {
        for (annotations, beginning) in [
            (json!({ "org.elsewhen.ofset": "1h" }), "org.elsewhen.ofset: there is no such setting"),
            (json!({ "org.elsewhen.offset": "soon" }), "org.elsewhen.offset: "),
            (json!({ "org.elsewhen.at": "2030-13-01" }), "org.elsewhen.at: "),
            (
                json!({ "org.elsewhen.rate": "1,realtime=2" }),
                "org.elsewhen.rate and org.elsewhen.freeze set realtime twice",
            ),
            (json!({ "org.elsewhen.files": "mine" }), "org.elsewhen.files: "),
            (json!({ "org.elsewhen.settable": "maybe" }), "org.elsewhen.settable: "),
            (json!({ "org.elsewhen.name": "../x" }), "org.elsewhen.name: "),
            (json!({ "org.elsewhen.timens": "true", "org.elsewhen.offset": "1h" }), "org.elsewhen.timens: neither"),
            (
                json!({ "org.elsewhen.timens": "true", "org.elsewhen.rate": "2" }),
                "org.elsewhen.timens: a time namespace",
            ),
            (json!({ "org.elsewhen.rate": "2", "run.oci.handler": "wasm" }), "the handler wasm"),
        ] {
            let message = request(annotations, json!([])).unwrap_err();
            assert!(message.starts_with(beginning) && !message.contains('\n'), "{message}");
        }
        let message = request(json!({}), json!(["ELSEWHEN_OFFSET=soon"])).unwrap_err();
        assert!(message.starts_with("ELSEWHEN_OFFSET: "), "{message}");
    }

    #[test]
    fn profiles_with_a_listener_are_refused() {
        let config = json!({
            "annotations": { "org.elsewhen.rate": "2" },
            "linux": { "seccomp": { "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["mount"], "action": "SCMP_ACT_NOTIFY" }] } },
            "root": { "path": "rootfs" },
        });
        let bundle = Bundle { config, folder: "/nonexistent".into(), path: PathBuf::new() };
        assert!(bundle.request().unwrap_err().to_string().contains("has a listener"));
    }

    #[test]
    fn the_hosts_root_is_refused() {
        let config = json!({ "annotations": { "org.elsewhen.rate": "2" }, "root": { "path": "/" } });
        let bundle = Bundle { config, folder: "/nonexistent".into(), path: PathBuf::new() };
        assert!(bundle.request().unwrap_err().to_string().contains("root is the host's"));
    }

    #[test]
    fn ids_become_names() {
        let digest = "3f4e".repeat(16);
        assert_eq!(name_of(&digest), digest[..12]);
        assert_eq!(name_of("web+1"), "web-1");
        assert_eq!(name_of("_x"), "c_x");
        assert!(Spec::new().with_name(&name_of(&"_".repeat(100))).is_ok());
    }
}
