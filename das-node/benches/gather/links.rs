//! Members behind links of bounded speed: loopback TCP, one bucket of tokens per pair.
//!
//! ```text
//! question   u8 form (0 shard, 1 whole) || hash (32)
//! answer     u64 data length || u8 hashes || hashes (32 each) || u64 length || bytes        (integers big-endian)
//! ```

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use das_common::committee::CodingId;
use das_common::data_hash::DataHash;
use das_common::erasure::{CheckedShard, Code, Shard};
use das_node::gather::{ShardSource, SourceError};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

/// What leaves a member at once.
const PIECE: usize = 16 * 1024;
/// How long a link may have been idle and still make up for it: timers wake a millisecond late or two.
const BURST: Duration = Duration::from_millis(4);
const NOBODY: usize = usize::MAX;

/// A batch in both forms.
pub(crate) struct Batch {
    pub(crate) hash: DataHash,
    pub(crate) data: Bytes,
    pub(crate) shards: Vec<CheckedShard>,
}

impl Batch {
    pub(crate) fn new(code: &Code, length: usize, seed: usize) -> Self {
        let mut state = seed as u64 + 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        let data: Bytes = (0..length).map(|_| next()).collect::<Vec<u8>>().into();
        Self { hash: DataHash::of(&data), shards: code.encode(&data).shards, data }
    }
}

/// One reader's connections to all members.
pub(crate) struct Links {
    addresses: Vec<std::net::SocketAddr>,
    /// Connections that wait for a question.
    idle: Vec<Mutex<Vec<TcpStream>>>,
    hangs: Arc<AtomicUsize>,
}

type Held = Arc<HashMap<DataHash, (Bytes, Shard)>>;

impl Links {
    /// Each member serves all batches, on a link of its own. `None`: as fast as it goes.
    pub(crate) async fn new(members: usize, batches: &[Batch], bytes_per_second: Option<f64>) -> Self {
        let hangs = Arc::new(AtomicUsize::new(NOBODY));
        let mut addresses = Vec::new();
        for member in 0..members {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            addresses.push(listener.local_addr().expect("it is bound"));
            let held = batches.iter().map(|batch| {
                let shard = batch.shards[member].as_shard().clone();
                (batch.hash, (batch.data.clone(), shard))
            });
            let (held, hangs): (Held, _) = (Arc::new(held.collect()), hangs.clone());
            let link = Arc::new(Link { bytes_per_second, free: Mutex::new(Instant::now()) });
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (held, link, hangs) = (held.clone(), link.clone(), hangs.clone());
                    tokio::spawn(async move { serve(stream, member, &held, &link, &hangs).await });
                }
            });
        }
        let idle = addresses.iter().map(|_| Mutex::default()).collect();
        Self { addresses, idle, hangs }
    }

    /// From now on this member takes questions and answers none.
    pub(crate) fn hang(&self, member: Option<usize>) {
        self.hangs.store(member.unwrap_or(NOBODY), Ordering::Relaxed);
    }

    async fn ask(&self, member: usize, form: u8, hash: &DataHash) -> io::Result<Shard> {
        let idle = self.idle[member].lock().pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => connect(self.addresses[member]).await?,
        };
        let mut question = [form; 33];
        question[1..].copy_from_slice(hash.as_bytes());
        stream.write_all(&question).await?;
        let data_length = stream.read_u64().await?;
        let mut proof = vec![[0; 32]; stream.read_u8().await?.into()];
        for hash in &mut proof {
            stream.read_exact(hash).await?;
        }
        let length = stream.read_u64().await?;
        let mut bytes = Vec::new();
        (&mut stream).take(length).read_to_end(&mut bytes).await?;
        if bytes.len() as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.idle[member].lock().push(stream);
        let index = u8::try_from(member).map_err(io::Error::other)?;
        Ok(Shard { index, data_length, bytes: bytes.into(), proof })
    }
}

async fn connect(address: std::net::SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl ShardSource for Links {
    async fn shard(&self, member: usize, hash: DataHash, _: CodingId) -> Result<Shard, SourceError> {
        self.ask(member, 0, &hash).await.map_err(|_| SourceError::NoAnswer)
    }

    async fn whole(&self, member: usize, hash: DataHash) -> Result<Bytes, SourceError> {
        self.ask(member, 1, &hash).await.map(|answer| answer.bytes).map_err(|_| SourceError::NoAnswer)
    }
}

/// The way from one member to the reader.
struct Link {
    bytes_per_second: Option<f64>,
    /// When what was put on it so far has left it.
    free: Mutex<Instant>,
}

impl Link {
    /// Waits until so many bytes have gone through.
    async fn carry(&self, bytes: usize) {
        let Some(bytes_per_second) = self.bytes_per_second else { return };
        let through = {
            let mut free = self.free.lock();
            let now = Instant::now();
            *free = (*free).max(now.checked_sub(BURST).unwrap_or(now))
                + Duration::from_secs_f64(bytes as f64 / bytes_per_second);
            *free
        };
        sleep_until(through).await;
    }
}

async fn serve(
    mut stream: TcpStream,
    member: usize,
    held: &Held,
    link: &Link,
    hangs: &AtomicUsize,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut question = [0; 33];
    loop {
        stream.read_exact(&mut question).await?;
        if hangs.load(Ordering::Relaxed) == member {
            pending::<()>().await;
        }
        let Some((_, (data, shard))) = held.iter().find(|(hash, _)| hash.as_bytes()[..] == question[1..])
        else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let proof: &[[u8; 32]] = if question[0] == 0 { &shard.proof } else { &[] };
        let bytes = if question[0] == 0 { &shard.bytes } else { data };
        let mut head = shard.data_length.to_be_bytes().to_vec();
        head.push(u8::try_from(proof.len()).map_err(io::Error::other)?);
        head.extend(proof.concat());
        head.extend((bytes.len() as u64).to_be_bytes());
        link.carry(head.len()).await;
        stream.write_all(&head).await?;
        for piece in bytes.chunks(PIECE) {
            link.carry(piece.len()).await;
            stream.write_all(piece).await?;
        }
    }
}
