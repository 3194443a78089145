//! Links between members: TCP proxies that are slow, late or cut.
//!
//! ```text
//!  member i ── dials ──► link(i → j) ── connects ──► member j
//! ```
//! Every member gets a committee file of its own in which the others' peer addresses are its links to them, so that each
//! pair speaks over links of its own. What a member would tell others of its address is given as one where nobody listens.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::network::{Network, Who};

/// What is passed on at once.
const PIECE: usize = 16 << 10;
/// A cut link looks this often whether it is whole again.
const LOOK: Duration = Duration::from_millis(20);

/// How a link is now. Shared by its connections; changes count at once.
#[derive(Debug, Default)]
struct State {
    /// Bits a second in each direction; 0: no limit.
    rate: AtomicU64,
    /// Microseconds that everything is late in each direction.
    delay: AtomicU64,
    /// Connections are refused, and those there are hang.
    cut: AtomicBool,
    ended: AtomicBool,
}

/// A proxy in front of one address.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    state: Arc<State>,
}

impl Link {
    /// Begins to pass on to `target`.
    pub fn to(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.ended.load(Ordering::Relaxed) {
                    return;
                }
                if shared.cut.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(target) else { continue };
                join(&client, &server, &shared);
            }
        });
        Ok(Self { address, state })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bits a second in each direction; 0: no limit.
    pub fn set_rate(&self, bits: u64) {
        self.state.rate.store(bits, Ordering::Relaxed);
    }

    /// How late everything is, in each direction.
    pub fn set_delay(&self, delay: Duration) {
        self.state.delay.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Cut: what is under way stops where it is, and nobody connects. Whole again: it goes on.
    pub fn set_cut(&self, cut: bool) {
        self.state.cut.store(cut, Ordering::Relaxed);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

/// Passes bytes on in both directions until one side ends.
fn join(client: &TcpStream, server: &TcpStream, state: &Arc<State>) {
    for (from, to) in [(client, server), (server, client)] {
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
        let _ = to.set_nodelay(true);
        let state = Arc::clone(state);
        thread::spawn(move || {
            // Whatever ended it, the other side is to know.
            let _ = pass_on(&from, &to, &state);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

fn pass_on(mut from: &TcpStream, to: &TcpStream, state: &Arc<State>) -> io::Result<()> {
    // What is late waits in a queue, so that a delay costs time and no rate.
    let (sender, late) = std::sync::mpsc::sync_channel::<(Instant, Vec<u8>)>(1024);
    let mut out = to.try_clone()?;
    let writing = Arc::clone(state);
    let writer = thread::spawn(move || -> io::Result<()> {
        for (due, bytes) in late {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            while writing.cut.load(Ordering::Relaxed) && !writing.ended.load(Ordering::Relaxed) {
                thread::sleep(LOOK);
            }
            out.write_all(&bytes)?;
        }
        Ok(())
    });
    let mut buffer = vec![0; PIECE];
    // When the link is free for the next piece.
    let mut free = Instant::now();
    loop {
        let got = from.read(&mut buffer)?;
        if got == 0 {
            break;
        }
        let (rate, delay) = (state.rate.load(Ordering::Relaxed), state.delay.load(Ordering::Relaxed));
        let now = Instant::now();
        if rate > 0 {
            free = free.max(now) + Duration::from_secs_f64(got as f64 * 8.0 / rate as f64);
            thread::sleep(free.saturating_duration_since(now));
        }
        let due = Instant::now() + Duration::from_micros(delay);
        if sender.send((due, buffer[..got].to_vec())).is_err() {
            break;
        }
    }
    drop(sender);
    writer.join().unwrap_or(Ok(()))
}

/// The links between all members of a network.
#[derive(Debug)]
pub struct Links {
    /// From the first to the second; `None` from one to itself.
    links: Vec<Vec<Option<Link>>>,
}

impl Links {
    /// Puts links between all members. Before they are started.
    pub fn between(network: &mut Network) -> io::Result<Self> {
        let text = std::fs::read_to_string(network.committee_file())?;
        let count = network.settings().members.len();
        let ports: Vec<u16> = network.settings().members.iter().map(|ports| ports.peer).collect();
        let mut links = Vec::new();
        for from in 0..count {
            let mut own = text.clone();
            let mut row = Vec::new();
            for (to, port) in ports.iter().enumerate() {
                if to == from {
                    row.push(None);
                    continue;
                }
                let link = Link::to(SocketAddr::from(([127, 0, 0, 1], *port)))?;
                let (direct, linked) =
                    (format!("/tcp/{port}\""), format!("/tcp/{}\"", link.address().port()));
                own = own.replace(&direct, &linked);
                row.push(Some(link));
            }
            let file = network.dir().join(format!("committee-of-{}.toml", from + 1));
            std::fs::write(&file, own)?;
            // Port 1: nobody listens there, so nobody goes round the links.
            let options = [
                "--committee.file".to_owned(),
                file.display().to_string(),
                "--peer.external-addresses".to_owned(),
                "/ip4/127.0.0.1/tcp/1".to_owned(),
            ];
            network.add_options_of(Who::Member(from), options);
            links.push(row);
        }
        Ok(Self { links })
    }

    /// Every link.
    pub fn set_all(&self, set: impl Fn(&Link)) {
        self.links.iter().flatten().flatten().for_each(set);
    }

    /// Cuts all links between those on one side and the others, or makes them whole.
    pub fn part(&self, side: &[usize], cut: bool) {
        for (from, row) in self.links.iter().enumerate() {
            for (to, link) in row.iter().enumerate() {
                if let Some(link) = link.as_ref().filter(|_| side.contains(&from) != side.contains(&to)) {
                    link.set_cut(cut);
                }
            }
        }
    }
}
