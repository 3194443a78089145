//! A wire that is listened to: a TCP proxy that keeps all bytes of both directions.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One wire.
pub(crate) struct Tap {
    /// What it is between, for messages.
    pub(crate) name: String,
    /// Where it is reached.
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    /// A wire to this port of the machine, for as long as the process lives.
    pub(crate) fn to(name: impl Into<String>, target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        std::thread::spawn(move || {
            for inside in listener.incoming().map_while(Result::ok) {
                // A server that is not there yet: the caller tries again.
                let Ok(outside) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                for (from, to) in [(&inside, &outside), (&outside, &inside)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let kept = Arc::clone(&kept);
                    std::thread::spawn(move || carry(from, to, &kept));
                }
            }
        });
        Self { name: name.into(), port, seen }
    }

    /// All that passed so far.
    pub(crate) fn seen(&self) -> Vec<u8> {
        self.seen.lock().unwrap().clone()
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, kept: &Mutex<Vec<u8>>) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        kept.lock().unwrap().extend_from_slice(&piece[..read]);
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    // Each side may have gone already.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
