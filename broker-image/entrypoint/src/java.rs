//! The Java processes: their command lines, and becoming them.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use crate::role::Role;
use crate::settings::Settings;

const JAVA: &str = "/opt/java/bin/java";
const HOME: &str = "/opt/rocketmq";
/// Classes of the engine as they must be, the engine's jars, then those that a derived image adds where it does.
const JAR_FOLDERS: [&str; 3] = ["/opt/rocketmq/guard", "/opt/rocketmq/lib", PLUGINS];
const PLUGINS: &str = "/opt/rocketmq/plugins";

/// Why the Java process did not come to be.
#[derive(Debug, thiserror::Error)]
pub enum JavaError {
    /// The engine's jars can't be listed.
    #[error("can't list the jars in {folder}")]
    Jars {
        /// Where they should be.
        folder: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The system refused.
    #[error("can't run {JAVA}")]
    Run(#[source] io::Error),
}

/// The arguments of a role's process. The operator's options come first, so that what the image rests on can't be overridden by them.
pub fn arguments(role: Role, rendered: &Path, class_path: &str) -> Vec<String> {
    let file = |name: &str| rendered.join(name).display().to_string();
    let mut arguments = vec![
        format!("@{}", file("jvm.options")),
        format!("-Drocketmq.home.dir={HOME}"),
        // Some of the engine's parts write below the user's home, whatever else they are told.
        format!("-Duser.home={}", rendered.display()),
        format!("-Drmq.logback.configurationFile={}", file("logback.xml")),
    ];
    arguments.extend(["-cp", class_path, role.main_class(), role.config_option()].map(str::to_owned));
    arguments.push(file(role.config_file()));
    arguments
}

/// The arguments of the admin tool: a small heap, because it runs inside some role's memory limit.
pub fn admin_arguments(settings: &Settings, class_path: &str, given: Vec<String>) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"].map(str::to_owned).to_vec();
    arguments.push(format!("-Drocketmq.home.dir={HOME}"));
    arguments.push("-Duser.home=/tmp".to_owned());
    arguments.push(format!("-Drmq.logback.configurationFile={HOME}/admin.logback.xml"));
    if !settings.name_servers.is_empty() {
        arguments.push(format!("-Drocketmq.namesrv.addr={}", settings.name_servers.join(";")));
    }
    arguments.extend(["-cp", class_path, "org.apache.rocketmq.tools.command.MQAdminStartup"].map(str::to_owned));
    arguments.extend(given);
    arguments
}

/// Becomes a role's process: the process id stays, and so SIGTERM reaches it.
pub fn role(role: Role, rendered: &Path) -> Result<Infallible, JavaError> {
    run(arguments(role, rendered, &class_path()?))
}

/// Becomes the admin tool.
pub fn admin(settings: &Settings, given: Vec<String>) -> Result<Infallible, JavaError> {
    run(admin_arguments(settings, &class_path()?, given))
}

fn run(arguments: Vec<String>) -> Result<Infallible, JavaError> {
    Err(JavaError::Run(Command::new(JAVA).args(arguments).exec()))
}

fn class_path() -> Result<String, JavaError> {
    let mut jars = Vec::new();
    for folder in JAR_FOLDERS.map(Path::new) {
        match list(folder) {
            Ok(found) => jars.extend(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder == Path::new(PLUGINS) => {}
            Err(source) => return Err(JavaError::Jars { folder: folder.to_owned(), source }),
        }
    }
    Ok(jars.join(":"))
}

/// In the order of their names: `lib/*` would leave to the file system which of two jars with the same class wins.
fn list(folder: &Path) -> io::Result<Vec<String>> {
    let mut jars = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jar") {
            jars.push(path.display().to_string());
        }
    }
    jars.sort();
    Ok(jars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_started_with_the_operators_options_first_and_its_rendered_file_last() {
        let arguments = arguments(Role::Broker, Path::new("/run/rocketmq"), "/a.jar:/b.jar");
        let expected = [
            "@/run/rocketmq/jvm.options",
            "-Drocketmq.home.dir=/opt/rocketmq",
            "-Duser.home=/run/rocketmq",
            "-Drmq.logback.configurationFile=/run/rocketmq/logback.xml",
            "-cp",
            "/a.jar:/b.jar",
            "org.apache.rocketmq.broker.BrokerStartup",
            "-c",
            "/run/rocketmq/broker.conf",
        ];
        assert_eq!(arguments, expected);
    }

    #[test]
    fn each_role_has_its_class_and_file() {
        let cases = [
            (Role::NameServer, "org.apache.rocketmq.namesrv.NamesrvStartup -c /run/nameserver.conf"),
            (Role::Controller, "org.apache.rocketmq.controller.ControllerStartup -c /run/controller.conf"),
            (Role::Broker, "org.apache.rocketmq.broker.BrokerStartup -c /run/broker.conf"),
            (Role::Proxy, "org.apache.rocketmq.proxy.ProxyStartup -pc /run/proxy.json"),
        ];
        for (role, end) in cases {
            let line = arguments(role, Path::new("/run"), "/a.jar").join(" ");
            assert!(line.ends_with(end), "{line}");
        }
    }

    #[test]
    fn the_admin_tool_knows_the_name_servers_and_gets_its_arguments_untouched() {
        let settings = Settings { name_servers: vec!["a:9876".to_owned(), "b:9876".to_owned()], ..Settings::default() };
        let line = admin_arguments(&settings, "/a.jar", vec!["topicList".to_owned(), "-c".to_owned()]).join(" ");
        assert!(line.contains("-Drocketmq.namesrv.addr=a:9876;b:9876 "), "{line}");
        assert!(line.ends_with("org.apache.rocketmq.tools.command.MQAdminStartup topicList -c"), "{line}");
    }

    #[test]
    fn jars_are_listed_by_name_and_nothing_else_is() {
        let folder = std::env::temp_dir().join(format!("gantry-entrypoint-jars-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for name in ["b.jar", "a.jar", "notes.txt"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let jars = list(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let names: Vec<_> = jars.iter().map(|jar| jar.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["a.jar", "b.jar"]);
    }
}
