//! Debian's redis-server, as a process.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::s3::until;

pub(crate) const KEY: &str = "0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

pub(crate) struct Redis {
    process: Option<Child>,
    port: u16,
}

impl Redis {
    pub(crate) fn start() -> Self {
        // It takes no port 0.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut redis = Self { process: None, port };
        redis.begin();
        redis
    }

    /// Starts it, with nothing in it.
    pub(crate) fn begin(&mut self) {
        let process = Command::new("redis-server")
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .args(["--requirepass", "a-password"])
            .stdout(Stdio::null())
            .spawn()
            .expect(
                "redis-server is missing: scripts/test cache installs it, or apt-get install redis-server",
            );
        self.process = Some(process);
        until("Redis answers", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    pub(crate) fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            // A stopped process is killed too.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops it without ending it: connections stay, and nothing is answered.
    pub(crate) fn hang(&self, hung: bool) {
        let id = self.process.as_ref().unwrap().id();
        let signal = if hung { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_raw(id.try_into().unwrap()).unwrap(), signal).unwrap();
    }

    pub(crate) fn options(&self, key: &str) -> Vec<String> {
        let section = "--data-availability.redis-cache";
        vec![
            format!("{section}.enable"),
            format!("{section}.url=redis://:a-password@127.0.0.1:{}", self.port),
            format!("{section}.key-config={key}"),
            format!("{section}.expiration=1h"),
        ]
    }

    /// One command, in the protocol's own words; the answer's first bulk string, if it is one.
    pub(crate) fn command(&self, words: &[&[u8]]) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut send = |words: &[&[u8]]| {
            let mut text = format!("*{}\r\n", words.len()).into_bytes();
            for word in words {
                text.extend(format!("${}\r\n", word.len()).bytes());
                text.extend_from_slice(word);
                text.extend(b"\r\n");
            }
            stream.write_all(&text).unwrap();
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                line.push(byte[0]);
            }
            let line = String::from_utf8(line).unwrap();
            assert!(!line.starts_with('-'), "{line}");
            let length = line.strip_prefix('$')?.trim().parse::<i64>().ok()?;
            let mut found = vec![0; usize::try_from(length).ok()?];
            stream.read_exact(&mut found).unwrap();
            Some(found)
        };
        send(&[b"AUTH", b"a-password"]);
        send(words)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
    }
}
