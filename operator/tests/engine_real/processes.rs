//! The engine's own processes on one machine: jars from Maven by broker-image/pom.xml, loopback only.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use gantry::broker_cluster::parse::parse;
use gantry::broker_cluster::resources::config;
use gantry::config::Settings;

/// Small heaps that were found to work; the broker's wheel of timers alone takes 39 MB of heap and 77 MB outside.
pub const NAME_SERVER: (&str, [&str; 2]) =
    ("org.apache.rocketmq.namesrv.NamesrvStartup", ["-Xmx32m", "-XX:MaxDirectMemorySize=32m"]);
pub const CONTROLLER: (&str, [&str; 2]) =
    ("org.apache.rocketmq.controller.ControllerStartup", ["-Xmx48m", "-XX:MaxDirectMemorySize=32m"]);
pub const BROKER: (&str, [&str; 2]) =
    ("org.apache.rocketmq.broker.BrokerStartup", ["-Xmx128m", "-XX:MaxDirectMemorySize=128m"]);

const JVM: [&str; 5] = [
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xss256k",
    "-Dio.netty.allocator.numDirectArenas=1",
    "-Dio.netty.allocator.numHeapArenas=1",
];

const LOGBACK: &str = r#"<configuration>
  <appender name="STDOUT" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%d %p %logger{20} - %m%n</pattern></encoder></appender>
  <root level="WARN"><appender-ref ref="STDOUT"/></root>
</configuration>
"#;

/// What the operator opens to a role's process: that pods start with it is what is tried here.
fn opened(class: &str) -> Vec<String> {
    let object = serde_json::json!({
        "apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "BrokerCluster", "metadata": {"name": "shop", "namespace": "ns", "uid": "u"}, "spec": {},
    });
    let cluster = parse(&serde_json::from_value(object).unwrap(), &Settings::default()).unwrap();
    let map = match class {
        _ if class == NAME_SERVER.0 => config::name_server(&cluster),
        _ if class == CONTROLLER.0 => config::controller(&cluster),
        _ => config::broker(&cluster, "shop-broker-0"),
    };
    let options = map.data.unwrap_or_default().remove("jvm.options").expect("options of the JVM");
    let opened: Vec<String> = options.lines().filter(|l| l.starts_with("--add-opens=")).map(str::to_owned).collect();
    assert!(!opened.is_empty(), "{class} is started without options of the operator's");
    opened
}

/// The folder with the engine's jars, filled by Maven when it is not that of the image's pom.xml.
pub fn jars() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = root.join("target/engine-jars");
    let (pom, done) = (root.join("broker-image/pom.xml"), folder.join(".complete"));
    let wanted = fs::read_to_string(&pom).expect("the image has a pom.xml");
    if fs::read_to_string(&done).ok().as_ref() != Some(&wanted) {
        println!("resolving the engine's jars with Maven …");
        let _ = fs::remove_dir_all(&folder);
        let status = Command::new("mvn")
            .args(["-q", "-B", "-f"])
            .arg(&pom)
            .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg(format!("-DoutputDirectory={}", folder.display()))
            .status()
            .expect("mvn is needed to resolve the engine's jars");
        assert!(status.success(), "mvn failed");
        fs::write(done, wanted).unwrap();
    }
    folder.canonicalize().unwrap()
}

/// Processes and their files; gone with it.
pub struct Machine {
    jars: PathBuf,
    folder: PathBuf,
    running: Vec<(String, Child)>,
}

impl Machine {
    pub fn new(jars: PathBuf) -> Self {
        let folder = std::env::temp_dir().join(format!("gantry-engine-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("logback.xml"), LOGBACK).unwrap();
        Machine { jars, folder, running: Vec::new() }
    }

    /// A free port on loopback with room around it: a broker takes the port two below for urgent requests and the one above for replication, a
    /// controller the one above for its peers. Below 32768, where the kernel's own choice for connections begins: a peer that calls one that is down
    /// again and again is else, once in a while, connected with itself, for good (its calls then fail with "No user processor found for request").
    pub fn port() -> u16 {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let first = 10_000 + u16::try_from(std::process::id() % 10_000).unwrap();
        loop {
            let port = first + NEXT.fetch_add(4, Ordering::Relaxed);
            assert!(port < 32_767, "no free ports");
            let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
            if free(port - 2) && free(port) && free(port + 1) {
                return port;
            }
        }
    }

    pub fn name_server(&mut self, name: &str, port: u16) {
        self.name_server_with(name, port, &[]);
    }

    /// A name server that speaks nothing but TLS, with a certificate and its key in PEM.
    pub fn name_server_with_tls(&mut self, name: &str, port: u16, certificate: &str, key: &str) {
        let folder = self.store(name);
        for (file, content) in [("tls.pem", certificate), ("tls.key", key)] {
            fs::write(format!("{folder}/{file}"), content).unwrap();
        }
        self.name_server_with(
            name,
            port,
            &[
                // Else it shows a certificate of its own making.
                "-Dtls.test.mode.enable=false".to_owned(),
                "-Dtls.server.mode=enforcing".to_owned(),
                format!("-Dtls.server.certPath={folder}/tls.pem"),
                format!("-Dtls.server.keyPath={folder}/tls.key"),
            ],
        );
    }

    fn name_server_with(&mut self, name: &str, port: u16, options: &[String]) {
        let store = self.store(name);
        let config = format!(
            "listenPort={port}\nbindAddress=127.0.0.1\nkvConfigPath={store}/kv.json\nconfigStorePath={store}/own.properties\n"
        );
        self.start_with(name, NAME_SERVER, &config, options);
    }

    /// A jRaft controller that takes a snapshot every few seconds; its peers reach it at the port after its own.
    pub fn controller(&mut self, name: &str, id: usize, ports: &[u16]) {
        let store = self.store(name);
        let list = |ports: &mut dyn Iterator<Item = u16>| {
            let addresses: Vec<String> = ports.map(|port| format!("127.0.0.1:{port}")).collect();
            addresses.join(",")
        };
        let config = format!(
            "controllerType=jRaft\njRaftGroupId=shop\njRaftServerId=127.0.0.1:{}\njRaftInitConf={}\njRaftControllerRPCAddr={}\n\
             jRaftSnapshotIntervalSecs=5\ncontrollerStorePath={store}\nconfigStorePath={store}/own.properties\n",
            ports[id] + 1,
            list(&mut ports.iter().map(|port| port + 1)),
            list(&mut ports.iter().copied())
        );
        self.start(name, CONTROLLER, &config);
    }

    pub fn broker(&mut self, name: &str, port: u16, name_server: u16, controllers: &[u16]) {
        let store = self.store(name);
        let controllers: Vec<String> = controllers.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let config = format!(
            "brokerClusterName=shop\nbrokerName=shop-broker-0\nbrokerIP1=127.0.0.1\nbrokerIP2=127.0.0.1\nbindAddress=127.0.0.1\nlistenPort={port}\n\
             haListenPort={}\nnamesrvAddr=127.0.0.1:{name_server}\nenableControllerMode=true\ncontrollerAddr={}\nallAckInSyncStateSet=true\n\
             storePathRootDir={store}\nstorePathEpochFile={store}/epochFileCheckpoint\nstorePathBrokerIdentity={store}/brokerIdentity\n\
             mappedFileSizeCommitLog=16777216\nmappedFileSizeConsumeQueue=60000\nmappedFileSizeTimerLog=1048576\nmaxIndexNum=40000\n\
             maxHashSlotNum=10000\ncompactionMappedFileSize=10485760\nmaxOffsetMapSize=1048576\nautoCreateTopicEnable=false\n\
             autoCreateSubscriptionGroup=false\ntimerFlushIntervalMs=10000\n\
             authenticationMetadataProvider=org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider\n\
             authorizationMetadataProvider=org.apache.rocketmq.auth.authorization.provider.LocalAuthorizationMetadataProvider\n",
            port + 1,
            controllers.join(";")
        );
        self.start(name, BROKER, &config);
    }

    /// A broker of a cluster of its own that answers nobody but who signs as this user.
    pub fn broker_that_asks_for_signatures(
        &mut self,
        name: &str,
        port: u16,
        name_server: u16,
        user: &str,
        secret: &str,
    ) {
        let store = self.store(name);
        let config = format!(
            "brokerClusterName={name}\nbrokerName={name}\nbrokerIP1=127.0.0.1\nbrokerIP2=127.0.0.1\nbindAddress=127.0.0.1\nlistenPort={port}\n\
             haListenPort={}\nnamesrvAddr=127.0.0.1:{name_server}\nstorePathRootDir={store}\n\
             mappedFileSizeCommitLog=16777216\nmappedFileSizeConsumeQueue=60000\nmappedFileSizeTimerLog=1048576\nmaxIndexNum=40000\n\
             maxHashSlotNum=10000\ncompactionMappedFileSize=10485760\nmaxOffsetMapSize=1048576\nauthenticationEnabled=true\n\
             authenticationProvider=org.apache.rocketmq.auth.authentication.provider.DefaultAuthenticationProvider\n\
             authenticationMetadataProvider=org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider\n\
             initAuthenticationUser={{\"username\":\"{user}\",\"password\":\"{secret}\"}}\n\
             innerClientAuthenticationCredentials={{\"accessKey\":\"{user}\",\"secretKey\":\"{secret}\"}}\n",
            port + 1,
        );
        self.start(name, BROKER, &config);
    }

    pub fn store(&self, name: &str) -> String {
        let store = self.folder.join(name);
        fs::create_dir_all(&store).unwrap();
        store.display().to_string()
    }

    pub fn start(&mut self, name: &str, program: (&str, [&str; 2]), config: &str) {
        self.start_with(name, program, config, &[]);
    }

    fn start_with(&mut self, name: &str, (class, memory): (&str, [&str; 2]), config: &str, options: &[String]) {
        let file = self.folder.join(format!("{name}.conf"));
        fs::write(&file, config).unwrap();
        let mut log =
            fs::OpenOptions::new().create(true).append(true).open(self.folder.join(format!("{name}.log"))).unwrap();
        writeln!(log, "--- start").unwrap();
        let folder = self.folder.display();
        let child = Command::new("java")
            .args(memory)
            .args(JVM)
            .args(opened(class))
            .args(options)
            .arg(format!("-Drmq.logback.configurationFile={folder}/logback.xml"))
            .arg(format!("-Drocketmq.home.dir={folder}"))
            .arg(format!("-Duser.home={folder}"))
            .args(["-cp", &format!("{}/*", self.jars.display()), class, "-c"])
            .arg(file)
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("java is needed to run the engine");
        self.running.push((name.to_owned(), child));
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self, name: &str) {
        let at = self.running.iter().position(|(running, _)| running == name).unwrap();
        let (_, mut child) = self.running.remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Process id.
    pub fn pid(&self, name: &str) -> u32 {
        self.running.iter().find(|(running, _)| running == name).unwrap().1.id()
    }

    /// SIGSTOP or SIGCONT.
    pub fn signal(&self, name: &str, signal: &str) {
        let status = Command::new("kill").args([format!("-{signal}"), self.pid(name).to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub fn lose_disk(&self, name: &str) {
        fs::remove_dir_all(self.folder.join(name)).unwrap();
    }

    /// The end of every process's log, for a test that failed.
    fn logs(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let from = lines.len().saturating_sub(15);
                println!("=== {}\n{}", path.display(), lines[from..].join("\n"));
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.logs();
        }
        for (_, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
