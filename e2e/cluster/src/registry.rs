//! How images get to the nodes of a cluster of the user's own: by a registry that its nodes pull from.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::archive;
use crate::debian::on_path;

/// Programs that can push an image archive, the ones that need nothing to run beside them first.
const TOOLS: &[Tool] = &[Tool::Skopeo, Tool::Buildah, Tool::Docker, Tool::Podman];

/// How images get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// They are pushed below this prefix, such as `registry.example.com/team`.
    Push(String),
    /// Somebody has seen to it already; below this prefix, or under the names that they are built with.
    Present(Option<String>),
}

/// A program that can push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    Skopeo,
    Buildah,
    Docker,
    Podman,
}

impl Delivery {
    /// Reads `GANTRY_REGISTRY` and `GANTRY_IMAGES`; an empty variable counts as unset.
    pub fn read(var: impl Fn(&str) -> Option<String>) -> Result<Delivery> {
        let set = |name: &str| var(name).filter(|value| !value.is_empty());
        let registry = match set("GANTRY_REGISTRY") {
            Some(prefix) if prefix.contains("://") || prefix.ends_with('/') => bail!(
                "GANTRY_REGISTRY={prefix} is no prefix of image names: write it as in a manifest, such as registry.example.com/team"
            ),
            registry => registry,
        };
        match (set("GANTRY_IMAGES").as_deref(), registry) {
            (Some("present"), registry) => Ok(Delivery::Present(registry)),
            (Some(other), _) => bail!("GANTRY_IMAGES={other}: it is present, or not set"),
            (None, Some(prefix)) => Ok(Delivery::Push(prefix)),
            (None, None) => bail!(
                "images can't be loaded into nodes of your own cluster from here: set GANTRY_REGISTRY to a prefix that they are pushed to and that its nodes pull from (such as registry.example.com/team), or GANTRY_IMAGES=present where the nodes have them already"
            ),
        }
    }

    /// What the nodes call an image.
    pub fn name(&self, image: &str) -> String {
        match self {
            Delivery::Push(prefix) | Delivery::Present(Some(prefix)) => format!("{prefix}/{image}"),
            Delivery::Present(None) => image.to_owned(),
        }
    }

    /// Sees to it that the nodes can have the images of an archive; returns what they call them.
    pub fn bring(&self, archive: &Path) -> Result<Vec<String>> {
        let images = archive::images(archive)?;
        let names = images.keys().map(|image| self.name(image)).collect();
        if let Delivery::Push(_) = self {
            let tool = tool(&std::env::var("PATH").unwrap_or_default(), answers)?;
            for image in images.keys() {
                for words in tool.commands(archive, image, &self.name(image)) {
                    run(&words)?;
                }
            }
        }
        Ok(names)
    }
}

impl Tool {
    fn program(self) -> &'static str {
        match self {
            Tool::Skopeo => "skopeo",
            Tool::Buildah => "buildah",
            Tool::Docker => "docker",
            Tool::Podman => "podman",
        }
    }

    /// Whether the program is of no use without an engine behind it.
    fn needs_engine(self) -> bool {
        matches!(self, Tool::Docker | Tool::Podman)
    }

    /// What pushes the image of that name in an archive to a destination.
    fn commands(self, archive: &Path, image: &str, destination: &str) -> Vec<Vec<String>> {
        let file = archive.display().to_string();
        let words = |words: &[&str]| -> Vec<String> {
            [self.program()].iter().chain(words).map(|word| (*word).to_owned()).collect()
        };
        let (from, to) = (format!("docker-archive:{file}:{image}"), format!("docker://{destination}"));
        match self {
            Tool::Skopeo => vec![words(&["copy", &from, &to])],
            // It pushes only what lies in its own store.
            Tool::Buildah => vec![words(&["pull", "--quiet", &from]), words(&["push", "--quiet", image, &to])],
            Tool::Docker => vec![
                words(&["load", "--quiet", "--input", &file]),
                words(&["tag", image, destination]),
                words(&["push", "--quiet", destination]),
            ],
            Tool::Podman => {
                vec![words(&["load", "--quiet", "--input", &file]), words(&["push", "--quiet", image, &to])]
            }
        }
    }
}

/// The first program that is there, and whose engine answers where it needs one.
fn tool(path: &str, answers: impl Fn(&str) -> bool) -> Result<Tool> {
    let usable = |tool: &Tool| on_path(tool.program(), path) && (!tool.needs_engine() || answers(tool.program()));
    TOOLS.iter().copied().find(usable).context(
        "nothing here can push an image: install skopeo (or buildah, or a docker or podman that answers), or set GANTRY_IMAGES=present where the nodes have the images already",
    )
}

/// Whether a container engine answers its command.
pub fn answers(engine: &str) -> bool {
    let mut info = Command::new(engine);
    info.arg("info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    info.status().is_ok_and(|status| status.success())
}

fn run(words: &[String]) -> Result<()> {
    let output = Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let output = output.with_context(|| words[0].clone())?;
    if !output.status.success() {
        bail!("`{}` failed: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(registry: &str, images: &str) -> Result<Delivery> {
        let vars = [("GANTRY_REGISTRY", registry), ("GANTRY_IMAGES", images)];
        Delivery::read(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn images_are_pushed_to_the_registry_that_is_named_or_taken_as_present() {
        assert_eq!(read("r.example/team", "").unwrap(), Delivery::Push("r.example/team".into()));
        assert_eq!(read("r.example/team", "present").unwrap(), Delivery::Present(Some("r.example/team".into())));
        assert_eq!(read("", "present").unwrap(), Delivery::Present(None));
        for (registry, images, part) in [
            ("", "", "set GANTRY_REGISTRY"),
            ("", "absent", "it is present, or not set"),
            ("https://r.example", "", "no prefix"),
            ("r.example/", "", "no prefix"),
        ] {
            let error = read(registry, images).unwrap_err().to_string();
            assert!(error.contains(part), "{registry} {images}: {error}");
        }
    }

    #[test]
    fn nodes_call_an_image_by_the_registrys_name() {
        let name = |registry, images| read(registry, images).unwrap().name("gantry/rocketmq:5.5.0");
        assert_eq!(name("r.example/team", ""), "r.example/team/gantry/rocketmq:5.5.0");
        assert_eq!(name("r.example/team", "present"), "r.example/team/gantry/rocketmq:5.5.0");
        assert_eq!(name("", "present"), "gantry/rocketmq:5.5.0");
    }

    #[test]
    fn each_tool_pushes_in_its_own_words() {
        let said = |tool: Tool| -> Vec<String> {
            let commands = tool.commands(Path::new("/c/a.tar"), "gantry/operator:1", "r.example/gantry/operator:1");
            commands.iter().map(|words| words.join(" ")).collect()
        };
        assert_eq!(
            said(Tool::Skopeo),
            ["skopeo copy docker-archive:/c/a.tar:gantry/operator:1 docker://r.example/gantry/operator:1"]
        );
        assert_eq!(
            said(Tool::Buildah),
            [
                "buildah pull --quiet docker-archive:/c/a.tar:gantry/operator:1",
                "buildah push --quiet gantry/operator:1 docker://r.example/gantry/operator:1"
            ]
        );
        assert_eq!(
            said(Tool::Docker),
            [
                "docker load --quiet --input /c/a.tar",
                "docker tag gantry/operator:1 r.example/gantry/operator:1",
                "docker push --quiet r.example/gantry/operator:1"
            ]
        );
        assert_eq!(
            said(Tool::Podman),
            [
                "podman load --quiet --input /c/a.tar",
                "podman push --quiet gantry/operator:1 docker://r.example/gantry/operator:1"
            ]
        );
    }

    #[test]
    fn without_a_tool_it_is_said_what_to_install() {
        let error = tool("/nonexistent", |_| true).unwrap_err().to_string();
        assert!(error.contains("install skopeo"), "{error}");
    }
}
