use super::*;

/// A shell as the server: `script` prints what a server would.
fn shell(name: &str, script: &str) -> Launch {
    Launch::new(name).program("/bin/sh").args(["-c", script]).ready_within(Duration::from_secs(20))
}

#[test]
fn a_server_is_ready_when_it_says_so_and_stops_on_request() {
    let script = "trap 'echo bye; exit 0' TERM; echo starting >&2; echo noise; \
                  echo 'fake ready: rpc=http://127.0.0.1:1 rest=http://127.0.0.1:2'; while :; do sleep 0.05; done";
    let mut server = shell("fake", script).start().unwrap();
    assert_eq!(server.rpc_url(), "http://127.0.0.1:1");
    assert_eq!(server.ready().url("rest").unwrap(), "http://127.0.0.1:2");
    assert!(matches!(server.ready().url("metrics"), Err(ProcessError::NoListener { .. })));
    let usage = server.usage().unwrap();
    assert!(usage.rss > 0 && usage.peak_rss >= usage.rss && usage.threads == 1, "{usage:?}");
    server.stop().unwrap();
    let output = server.output();
    assert!(output.contains("starting") && output.contains("noise"), "{output}");
}

#[test]
fn a_server_that_fails_to_start_is_an_error_with_its_words() {
    match shell("fake", "echo no disk >&2; exit 3").start() {
        Err(ProcessError::EndedEarly { status, output, .. }) => {
            assert_eq!(status.code(), Some(3));
            assert!(output.contains("no disk"), "{output}");
        }
        other => panic!("{other:?}"),
    }
    let silent = shell("fake", "sleep 60").ready_within(Duration::from_millis(50)).start();
    assert!(matches!(silent, Err(ProcessError::NotReady { .. })), "{silent:?}");
}

#[test]
fn one_that_will_not_stop_is_killed_and_failure_to_stop_is_reported() {
    let ready = "echo 'fake ready:';";
    let mut deaf =
        shell("fake", &format!("trap '' TERM; {ready} while :; do sleep 0.05; done")).start().unwrap();
    let answer = deaf.stop_within(Duration::from_millis(50));
    assert!(matches!(answer, Err(ProcessError::WouldNotStop { .. })), "{answer:?}");
    assert!(deaf.exit_status().unwrap().is_some());

    let mut sour =
        shell("fake", &format!("trap 'exit 7' TERM; {ready} while :; do sleep 0.05; done")).start().unwrap();
    let answer = sour.stop();
    assert!(matches!(answer, Err(ProcessError::StoppedBadly { .. })), "{answer:?}");
}

#[test]
fn dropping_the_handle_ends_the_process() {
    let server = shell("fake", "echo 'fake ready:'; exec sleep 60").start().unwrap();
    let proc_dir = format!("/proc/{}", server.id());
    assert!(Path::new(&proc_dir).exists());
    drop(server);
    assert!(!Path::new(&proc_dir).exists());
}

/// The test executable runs itself: the inner run starts a child, prints its id and is killed.
#[test]
fn a_child_does_not_outlive_a_killed_owner() {
    const INNER: &str = "DAS_TEST_OWNER";
    if std::env::var_os(INNER).is_some() {
        let child = shell("fake", "echo 'fake ready:'; exec sleep 60").start().unwrap();
        // Straight to the descriptor: the harness would hold back what is printed.
        writeln!(std::io::stdout().lock(), "owner ready: child=http://{}", child.id()).unwrap();
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let name = "process::tests::a_child_does_not_outlive_a_killed_owner";
    let owner = Launch::new("owner").program(std::env::current_exe().unwrap()).env(INNER, "1");
    let mut owner = owner.args(["--exact", name, "--nocapture"]).start().unwrap();
    let child: u32 = owner.ready().url("child").unwrap().trim_start_matches("http://").parse().unwrap();
    assert!(Usage::of(child).is_ok());
    owner.kill().unwrap();
    let gone = (0..2000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        // A killed orphan may stay a zombie until init collects it: a zombie has no memory figures.
        Usage::of(child).is_err()
    });
    assert!(gone, "process {child} still runs");
}

#[test]
fn work_is_measured_and_idleness_awaited() {
    let script = "echo 'fake ready:'; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; exec sleep 60";
    let server = shell("fake", script).start().unwrap();
    let meter = UsageMeter::start(server.id()).unwrap();
    assert!(wait_until_idle(&[server.id()], Duration::from_millis(600), Duration::from_secs(60)).unwrap());
    assert!(meter.read().unwrap().cpu() > Duration::ZERO);
}
