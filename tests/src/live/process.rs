//! A running Envoy.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Binary;

/// How long a machine under load may take for anything that normally takes a moment.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long connections of clients that have left may be there.
const SETTLING: Duration = Duration::from_secs(10);

/// A folder that is removed with its contents.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new folder.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn new() -> std::io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dryroute-live-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running Envoy; it ends with the value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    admin: SocketAddr,
    listeners: BTreeMap<String, SocketAddr>,
}

impl Process {
    /// Starts Envoy in `folder` and waits until its listeners take connections.
    ///
    /// # Errors
    ///
    /// Envoy refuses the configuration, or does not come up in time; the text holds what it said.
    pub fn start(binary: &Binary, bootstrap: &Value, folder: &Path) -> Result<Self, String> {
        let text = |e: std::io::Error| e.to_string();
        let config = folder.join("bootstrap.json");
        std::fs::write(&config, bootstrap.to_string()).map_err(text)?;
        let errors = folder.join("stderr.txt");
        let address = folder.join("admin.txt");
        let child = Command::new(&binary.path)
            .arg("--config-path")
            .arg(&config)
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"])
            .args(["--file-flush-interval-msec", "50", "--admin-address-path"])
            .arg(&address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&errors).map_err(text)?)
            .spawn()
            .map_err(|e| format!("{}: {e}", binary.path.display()))?;
        let mut started =
            Self { child, admin: SocketAddr::from(([127, 0, 0, 1], 0)), listeners: BTreeMap::new() };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = started.child.try_wait().map_err(text)? {
                let said = std::fs::read_to_string(&errors).unwrap_or_default();
                return Err(format!("Envoy ended with {status}: {}", said.trim()));
            }
            if started.admin.port() == 0 {
                let written = std::fs::read_to_string(&address).unwrap_or_default();
                if let Ok(admin) = written.trim().parse() {
                    started.admin = admin;
                }
            }
            if started.admin.port() != 0 && started.get("/ready").is_ok_and(|body| body.trim() == "LIVE") {
                break;
            }
            if Instant::now() > deadline {
                let said = std::fs::read_to_string(&errors).unwrap_or_default();
                return Err(format!("Envoy is not ready after {PATIENCE:?}: {}", said.trim()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let answer: Value = serde_json::from_str(&started.get("/listeners?format=json").map_err(text)?)
            .map_err(|e| e.to_string())?;
        for listener in answer["listener_statuses"].as_array().into_iter().flatten() {
            let socket = &listener["local_address"]["socket_address"];
            let at = format!(
                "{}:{}",
                socket["address"].as_str().unwrap_or_default(),
                socket["port_value"].as_u64().unwrap_or_default()
            );
            if let (Some(name), Ok(at)) = (listener["name"].as_str(), at.parse()) {
                started.listeners.insert(name.to_owned(), at);
            }
        }
        Ok(started)
    }

    /// The address of a listener.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.get(name).copied()
    }

    /// The time that Envoy has worked, on all its cores together; `None` where the system does not tell it in Linux' way.
    pub fn worked(&self) -> Option<Duration> {
        /// Ticks in a second, the same on every Linux of today.
        const TICKS: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        // Behind the name, which may hold anything, the 12th and 13th fields are the user's and the system's ticks.
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().ok());
        Some(Duration::from_secs_f64(ticks.sum::<Option<f64>>()? / TICKS))
    }

    /// Asks the admin interface.
    pub(super) fn get(&self, path: &str) -> std::io::Result<String> {
        self.ask("GET", path)
    }

    fn ask(&self, method: &str, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { return Ok(String::new()) };
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            return Ok(super::client::unchunk(body.as_bytes())
                .map_or_else(String::new, |b| String::from_utf8_lossy(&b).into_owned()));
        }
        Ok(body.to_owned())
    }

    /// Waits a while for Envoy to notice that clients have left: those who are still there when it ends are logged otherwise.
    pub(super) fn settle(&self) {
        const PATH: &str = "/stats?filter=%5Elistener%5C..*%5C.downstream_cx_active%24";
        let deadline = Instant::now() + SETTLING;
        while Instant::now() < deadline {
            let Ok(stats) = self.get(PATH) else { return };
            let own = stats.lines().filter(|line| !line.starts_with("listener.admin."));
            if own.into_iter().all(|line| line.ends_with(": 0")) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends Envoy and waits until it has written its logs.
    pub fn quit(mut self) {
        if self.ask("POST", "/quitquitquit").is_ok() {
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
