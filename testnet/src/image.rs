//! A file system on an image file, and a power cut for it.
//!
//! A power cut loses what the kernel still holds and nothing else. Killing a process does not: its dirty pages live on in
//! the kernel and reach the disk later. So the cut is made below the process, at the file system:
//!
//! 1. At the chosen instant the file system is shut down (`EXT4_IOC_SHUTDOWN`). From then on it writes nothing; dirty
//!    pages are lost, and every further write and fsync fails. This is one instant for the whole image, which copying a
//!    living image would not be.
//! 2. When the loop device has no request in flight, the image is copied. The device writes to it directly, past
//!    the page cache, so the copy holds what the device was given and no more.
//! 3. The copy is mounted: ext4 replays its journal as it would after a cut.
//!
//! What this does not show is a disk that loses its own write cache although it was told to flush it; every write that
//! reached the device counts as kept.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::ioctl;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The process may not mount.
    #[error("mounting an image needs root, and the process runs as user {user}: run the test as root")]
    NotRoot {
        /// The user's id.
        user: u32,
    },
    /// A program is missing or cannot be started.
    #[error("{program} cannot be started ({source}); it is in the packages e2fsprogs and mount")]
    NoProgram {
        /// The program.
        program: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program failed: no loop devices, no ext4, no space.
    #[error("{command} failed: {output}")]
    Failed {
        /// The command line.
        command: String,
        /// What it printed.
        output: String,
    },
    /// A file could not be made or read.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The loop device did not come to rest.
    #[error("{device} still has requests in flight: {inflight}")]
    Busy {
        /// The device.
        device: String,
        /// Reads and writes in flight.
        inflight: String,
    },
}

/// What had become of the file system's journal when the power went. The kernel commits it every few seconds and with
/// every fsync, so both happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// It was committed at the last fsync or before: names and lengths that were not synced are lost too.
    AsItWas,
    /// It was committed a moment before: names and lengths may be there without the data.
    JustCommitted,
}

/// A mounted ext4 image. Dropping it unmounts it; the image file stays.
#[derive(Debug)]
pub struct Image {
    file: PathBuf,
    device: String,
    mount: PathBuf,
}

impl Image {
    /// Makes an empty file system of that size and mounts it. `<file>.mnt` becomes the mount point.
    pub fn create(file: &Path, bytes: u64) -> Result<Self, ImageError> {
        let user = rustix::process::geteuid().as_raw();
        if user != 0 {
            return Err(ImageError::NotRoot { user });
        }
        let made = File::create(file).and_then(|f| f.set_len(bytes));
        made.map_err(|source| ImageError::Io { action: "make", path: file.to_owned(), source })?;
        // Everything initialised now, so that no lazy initialisation writes during the test.
        let lazy = "lazy_itable_init=0,lazy_journal_init=0";
        run("mkfs.ext4", &["-q", "-F", "-E", lazy, &file.to_string_lossy()])?;
        Self::mount(file)
    }

    /// Mounts an image; its journal is replayed if it was not unmounted in order.
    pub fn mount(file: &Path) -> Result<Self, ImageError> {
        let name = file.to_string_lossy();
        let device = run("losetup", &["--find", "--show", "--direct-io=on", &name])?.trim().to_owned();
        let mount = PathBuf::from(format!("{name}.mnt"));
        let made = std::fs::create_dir_all(&mount);
        let image = Self { file: file.to_owned(), device, mount };
        made.map_err(|source| ImageError::Io { action: "make", path: image.mount.clone(), source })?;
        run("mount", &["-t", "ext4", &image.device, &image.mount.to_string_lossy()])?;
        Ok(image)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Cuts the power: from now on nothing reaches the image, and writes to the file system fail.
    pub fn cut_power(&self, journal: Journal) -> Result<(), ImageError> {
        // _IOR('X', 125, __u32), as in the kernel's ext4 header.
        const SHUTDOWN: ioctl::Opcode = ioctl::opcode::read::<u32>(b'X', 125);
        // EXT4_GOING_FLAGS_LOGFLUSH and EXT4_GOING_FLAGS_NOLOGFLUSH.
        let flags = match journal {
            Journal::JustCommitted => 1,
            Journal::AsItWas => 2,
        };
        let io = |source| ImageError::Io { action: "shut down", path: self.mount.clone(), source };
        let root = File::open(&self.mount).map_err(io)?;
        // SAFETY: this request reads one 32-bit number from the pointer it is given and writes nothing through it.
        let setter = unsafe { ioctl::Setter::<SHUTDOWN, u32>::new(flags) };
        // SAFETY: the descriptor is open for the call, and the argument is of the type the request expects.
        unsafe { ioctl::ioctl(&root, setter) }.map_err(|e| io(e.into()))
    }

    /// Copies the image as it is after a power cut.
    pub fn copy_to(&self, file: &Path) -> Result<(), ImageError> {
        let name = self.device.trim_start_matches("/dev/");
        let inflight = PathBuf::from(format!("/sys/block/{name}/inflight"));
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let text = std::fs::read_to_string(&inflight);
            let text =
                text.map_err(|source| ImageError::Io { action: "read", path: inflight.clone(), source })?;
            if text.split_whitespace().all(|n| n == "0") {
                break;
            }
            if Instant::now() > deadline {
                return Err(ImageError::Busy { device: self.device.clone(), inflight: text });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        run("cp", &["--sparse=always", &self.file.to_string_lossy(), &file.to_string_lossy()])?;
        Ok(())
    }

    /// Unmounts it and removes the image file.
    pub fn discard(self) -> Result<(), ImageError> {
        let file = self.file.clone();
        drop(self);
        std::fs::remove_file(&file).map_err(|source| ImageError::Io { action: "remove", path: file, source })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Whatever fails here is left for the administrator; the commands name what they could not do.
        for (program, subject) in
            [("umount", self.mount.to_string_lossy()), ("losetup", self.device.as_str().into())]
        {
            let args: &[&str] = if program == "losetup" { &["--detach", &subject] } else { &[&subject] };
            let _ = run(program, args);
        }
        let _ = std::fs::remove_dir(&self.mount);
    }
}

fn run(program: &'static str, args: &[&str]) -> Result<String, ImageError> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|source| ImageError::NoProgram { program, source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ImageError::Failed { command: format!("{program} {}", args.join(" ")), output: text })
}
