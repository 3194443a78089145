//! Core dumps of processes that hold a key: the kernel writes one where `debuggable` allows it, and none elsewhere.
//!
//! Each program is started with no limit on core files and is then killed by the signal that writes one. That the same
//! start with `debuggable` leaves a core shows that this machine writes cores at all, and that the test would see one. The
//! kernel itself says in the exit status whether it made a core, wherever `kernel.core_pattern` sends it; the file is
//! looked for only where the pattern is a plain name, below the folder that the program runs in.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use das_testnet::process::{Launch, binary};
use rustix::process::Signal;

use super::authority::Authority;
use super::member::{LONG, folder, good, member_options};

/// Runs what follows its first argument in the folder that this names.
const WITHOUT_LIMIT: &str = r#"cd "$0" && ulimit -c unlimited && exec "$@""#;

/// What was left of a program.
struct Left {
    dumped: bool,
    core: Option<PathBuf>,
}

/// Starts a program in a folder of its own, with cores allowed, and kills it as a bug would.
fn killed(dir: &Path, program: &str, options: &[String]) -> Left {
    fs::create_dir(dir).unwrap();
    let launch = Launch::new(program)
        .program("/bin/sh")
        .args(["-c", WITHOUT_LIMIT])
        .arg(dir)
        .arg(binary(program).unwrap())
        .args(options);
    let mut process = launch.start().unwrap();
    process.signal(Signal::ABORT).unwrap();
    let status = process.wait_for_exit(LONG).unwrap().unwrap();
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{}", process.output());
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    Left { dumped: status.core_dumped(), core: entries.into_iter().find(|path| is_core(path)) }
}

/// An ELF file of the type of cores.
fn is_core(path: &Path) -> bool {
    const CORE: u16 = 4;
    let mut head = [0; 18];
    let read = fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut head));
    read.is_ok() && head.starts_with(b"\x7fELF") && u16::from_ne_bytes([head[16], head[17]]) == CORE
}

#[test]
fn a_process_that_holds_a_key_leaves_no_core_unless_it_is_debuggable() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    good(&["key-make", "--to.key-dir", &at("keys")], &[]);
    let authority = Authority::new(&folder.path().join("tls"));
    let server = authority.issue("localhost");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let signer = [
        "--port=0".to_owned(),
        "--allowed-clients=alice".to_owned(),
        format!("--audit-log={}", at("audit")),
        format!("--key.key-dir={}", at("keys")),
        format!("--tls.cert={}", path(&server.certificate)),
        format!("--tls.key={}", path(&server.key)),
        format!("--tls.client-ca={}", path(&authority.file())),
    ];
    let node = member_options(&folder.path().join("data"), &["--key.key-dir", &at("keys")]);
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let beside = !pattern.trim_start().starts_with(['|', '/', '@']);

    for (program, options, debuggable) in [
        ("das-node", &node[..], "--data-availability.key.debuggable"),
        ("das-signer", &signer[..], "--debuggable"),
    ] {
        let open = [options, &[debuggable.to_owned()]].concat();
        let left = killed(&folder.path().join(format!("{program}-debuggable")), program, &open);
        assert!(left.dumped, "{program}: this machine writes no cores, so nothing can be seen here");
        assert!(!beside || left.core.is_some(), "{program}: there is no core where {pattern:?} says");

        let left = killed(&folder.path().join(program), program, options);
        assert!(!left.dumped, "{program}: the kernel wrote a core of a process that holds a key");
        assert!(left.core.is_none(), "{program}: {:?}", left.core);
    }
}
