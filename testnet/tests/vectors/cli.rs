//! `cli.json`: `dastool` in the place of Nitro's `anytrusttool`, `das-node` in that of `anytrustserver`.
//!
//! Standard output and exit codes are compared; what goes to standard error are the recorded program's own words. Where we
//! leave the recorded outcome on purpose, [`ours`] says so with the reason.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use das_testnet::process::{Launch, ServerProcess, binary};
use serde_json::Value;
use tempfile::TempDir;

/// How long one run of a program may take.
const WITHIN: Duration = Duration::from_secs(60);

/// Where all cases run: servers, and a scratch directory that they share, since later cases see what earlier ones made.
pub(crate) struct Place {
    dir: TempDir,
    variables: BTreeMap<String, String>,
    // Dropped with the place: servers end, the port is free again.
    _servers: Vec<ServerProcess>,
    _taken: TcpListener,
}

impl Place {
    /// Starts what the file's description promises.
    pub(crate) fn new(file: &Value) -> Self {
        let dir = tempfile::tempdir().expect("a scratch directory");
        for name in ["bls", "ec", "data", "nokey"] {
            fs::create_dir(dir.path().join(name)).expect("a fresh directory");
        }
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a scratch file");
        let secret = file["keys"]["poster"]["secret"].as_str().expect("the poster's key");
        write("poster.key", secret.trim_start_matches("0x"));
        write("good.json", r#"{"rest-port":"1234","enable-rest":"true"}"#);
        write("unknown.json", r#"{"rest-port":"1234","foo":1}"#);
        write("broken.json", r#"{"rest-port":"#);

        let checked = member(&file["server"], &dir.path().join("member"), false);
        let unchecked = member(&file["server"], &dir.path().join("unchecked"), true);
        // A port that was free a moment ago: nothing listens there.
        let dead = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let dead_host = dead.local_addr().expect("a bound address").to_string();
        drop(dead);
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let taken_host = taken.local_addr().expect("a bound address");

        let variables = [
            ("dir", dir.path().display().to_string()),
            ("rpc", checked.rpc_url()),
            ("rest", checked.rest_url()),
            ("rpc_unchecked", unchecked.rpc_url()),
            ("dead", format!("http://{dead_host}")),
            ("dead_host", dead_host),
            ("taken_port", taken_host.port().to_string()),
            ("rest_host", taken_host.to_string()),
        ];
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { dir, variables, _servers: vec![checked, unchecked], _taken: taken }
    }

    fn filled_in(&self, text: &str) -> String {
        let fill =
            |text: String, (name, value): (&String, &String)| text.replace(&format!("${{{name}}}"), value);
        self.variables.iter().fold(text.to_owned(), fill)
    }

    /// Runs one case; an error says how it differs from what was recorded.
    pub(crate) fn run(&self, case: &Value) -> Result<(), String> {
        let args: Vec<String> =
            case["args"].as_array().into_iter().flatten().map(|arg| self.filled_in(text(arg))).collect();
        for (name, content) in case["file"].as_object().into_iter().flatten() {
            fs::write(self.dir.path().join(name), text(content)).map_err(|error| error.to_string())?;
        }
        match case["program"].as_str() {
            None => self.run_tool(case, &args),
            Some("anytrustserver") => self.run_server(case, &args),
            Some(other) => Err(format!("no program of ours stands in for {other}")),
        }
    }

    fn run_tool(&self, case: &Value, args: &[String]) -> Result<(), String> {
        let ours = ours(case, args);
        let before =
            ours.as_ref().and_then(|ours| ours.untouched.as_ref()).map(|path| (path, fs::read(path).ok()));
        let output = run("dastool", args, case)?;
        let code = output.status.code().ok_or("ended by a signal")?;
        let (expected_code, expected_stdout) = match &ours {
            Some(ours) => (ours.exit_code, ""),
            None => (number(&case["exit_code"])?, text(&case["stdout"])),
        };
        if code != expected_code {
            let stderr = String::from_utf8_lossy(&output.stderr);
            return Err(format!("exit code {code}, expected {expected_code}; stderr: {stderr}"));
        }
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stdout_pattern = self.filled_in(expected_stdout);
        let captured = matches(&stdout_pattern, &stdout)
            .ok_or_else(|| format!("stdout {:?}, expected {:?}", clip(&stdout), clip(&stdout_pattern)))?;
        check_captured(&captured, args)?;
        if code != 0 && output.stderr.is_empty() {
            return Err("failed without a word on standard error".to_owned());
        }
        if let Some((path, Some(before))) = before
            && fs::read(path).ok().as_ref() != Some(&before)
        {
            return Err(format!("{} was changed", path.display()));
        }
        for file in case["files"].as_array().into_iter().flatten() {
            check_file(&directory(args).join(text(&file["file"])), file)?;
        }
        Ok(())
    }

    /// Start-up failures: never exit code 0 with us (spec section 11), and a word about the reason. Dumps: every option of
    /// the recorded one, with its value.
    fn run_server(&self, case: &Value, args: &[String]) -> Result<(), String> {
        let output = run("das-node", args, case)?;
        let code = output.status.code().ok_or("ended by a signal")?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        if args.iter().any(|arg| arg == "--conf.dump") {
            let recorded = self.filled_in(text(&case["stdout"]));
            let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
            let (recorded, dumped) = (parse(&recorded)?, parse(&stdout)?);
            let differences = differences(&recorded, &dumped, &overruled(case, args));
            return if code == 0 && differences.is_empty() {
                Ok(())
            } else {
                Err(format!("exit code {code}, differences: {}", differences.join("; ")))
            };
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        if code == 0 || code > 2 {
            return Err(format!("exit code {code}; stdout {:?}, stderr {:?}", clip(&stdout), clip(&stderr)));
        }
        if stderr.trim().is_empty() && stdout.trim().is_empty() {
            return Err("failed without a word".to_owned());
        }
        Ok(())
    }
}

/// What we do instead of what was recorded.
struct Ours {
    exit_code: i32,
    /// A file that must be the same afterwards.
    untouched: Option<PathBuf>,
}

/// The cases that we leave on purpose; the conditions are stated on what is asked, not on a case's name.
fn ours(case: &Value, args: &[String]) -> Option<Ours> {
    let command = args.first()?.to_ascii_lowercase();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    match command.as_str() {
        // A key that signed something must not be lost to a repeated command (the issue: keygen refuses to overwrite).
        "keygen" if case["overwrites_the_old_key"] == true => {
            Some(Ours { exit_code: 2, untouched: Some(directory(args).join("das_bls")) })
        }
        // The directory is made (the issue says so).
        "keygen" if !directory(args).exists() && value("--dir").is_some() => {
            Some(Ours { exit_code: 0, untouched: None })
        }
        // Section 12, rule 2: we publish no keyset with H > n or without keys, which would be valid without a signature.
        "dumpkeyset" => {
            let members: Vec<Value> = serde_json::from_str(value("--keyset.backends")?).ok()?;
            let assumed_honest: usize = value("--keyset.assumed-honest")?.parse().ok()?;
            (assumed_honest > members.len()).then_some(Ours { exit_code: 2, untouched: None })
        }
        _ => None,
    }
}

/// Options whose value differs on purpose: where environment and command line both give one, the command line wins here
/// (spec section 11).
fn overruled(case: &Value, args: &[String]) -> Vec<(String, String)> {
    let mut overruled = Vec::new();
    for variable in case["environment"].as_array().into_iter().flatten() {
        let name = text(variable).split('=').next().unwrap_or_default();
        let option = name.split_once('_').map_or("", |(_, rest)| rest).to_ascii_lowercase();
        let option = option.replace("__", "-").replace('_', ".");
        if let Some(at) = args.iter().position(|arg| *arg == format!("--{option}")) {
            overruled.push((option, args[at + 1].clone()));
        }
    }
    overruled
}

fn member(options: &Value, data_dir: &Path, unchecked: bool) -> ServerProcess {
    fs::create_dir(data_dir).expect("a fresh directory");
    let mut launch = Launch::new("das-node");
    for (name, value) in options.as_object().expect("the server's options") {
        let value = text(value).replace("${data_dir}", &data_dir.display().to_string());
        launch = launch.arg(format!("--{name}={value}"));
    }
    if unchecked {
        launch = launch.arg("--data-availability.disable-signature-checking=true");
    }
    let ports = ["--enable-rpc", "--rpc-addr=127.0.0.1", "--rpc-port=0"];
    let rest = ["--enable-rest", "--rest-addr=127.0.0.1", "--rest-port=0"];
    launch.args(ports).args(rest).start().expect("a member to store at")
}

fn run(program: &str, args: &[String], case: &Value) -> Result<Output, String> {
    let mut command = Command::new(binary(program).map_err(|error| error.to_string())?);
    command.args(args);
    for variable in case["environment"].as_array().into_iter().flatten() {
        let (name, value) = text(variable).split_once('=').ok_or("a variable without =")?;
        command.env(name, value);
    }
    let mut child = command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    // Outputs are far smaller than a pipe's buffer, so waiting before reading cannot block the child.
    let start = Instant::now();
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if start.elapsed() > WITHIN {
            child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
            let output = child.wait_with_output().map_err(|error| error.to_string())?;
            let stdout = String::from_utf8_lossy(&output.stdout);
            return Err(format!("still running after {WITHIN:?}; stdout {:?}", clip(&stdout)));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().map_err(|error| error.to_string())
}

/// Matches text with a pattern of literal pieces and `${name}`; returns what the names stand for.
fn matches(pattern: &str, text: &str) -> Option<Vec<(String, String)>> {
    let Some((literal, rest)) = pattern.split_once("${") else {
        return (pattern == text).then(Vec::new);
    };
    let (name, rest) = rest.split_once('}')?;
    let text = text.strip_prefix(literal)?;
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let fits = |part: &str| match name {
        "timeout" => part.len() == 16 && is_hex(part),
        "signature" => part.len() == 192 && is_hex(part),
        _ => !part.contains('\n'),
    };
    (0..=text.len()).filter(|at| text.is_char_boundary(*at) && fits(&text[..*at])).find_map(|at| {
        let mut captured = matches(rest, &text[at..])?;
        captured.insert(0, (name.to_owned(), text[..at].to_owned()));
        Some(captured)
    })
}

/// A timeout must be now plus the retention asked for (a day, unless the arguments say otherwise).
fn check_captured(captured: &[(String, String)], args: &[String]) -> Result<(), String> {
    let Some((_, timeout)) = captured.iter().find(|(name, _)| name == "timeout") else { return Ok(()) };
    let timeout = u64::from_str_radix(timeout, 16).map_err(|error| error.to_string())?;
    let at = args.iter().position(|arg| arg == "--anytrust-retention-period");
    let retention = match at.and_then(|at| args.get(at + 1)) {
        Some(text) => das_common::config::parse_duration(text).map_err(|error| error.to_string())?,
        None => Duration::from_secs(24 * 3600),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    let expected = now.as_secs() + retention.as_secs();
    // What lies between is how long the run took.
    if (expected.saturating_sub(WITHIN.as_secs())..=expected).contains(&timeout) {
        Ok(())
    } else {
        Err(format!("timeout {timeout}, expected about {expected}"))
    }
}

fn check_file(path: &Path, expected: &Value) -> Result<(), String> {
    let name = path.display();
    let content = fs::read(path).map_err(|error| format!("{name}: {error}"))?;
    let mode = fs::metadata(path).map_err(|error| error.to_string())?.permissions().mode() & 0o7777;
    if format!("{mode:04o}") != text(&expected["mode"]) {
        return Err(format!("{name} has mode {mode:04o}, expected {}", expected["mode"]));
    }
    let line = String::from_utf8(content).map_err(|_| format!("{name} is not text"))?;
    if line.ends_with('\n') != (expected["ends_with_newline"] == true) {
        return Err(format!("{name} ends otherwise: {line:?}"));
    }
    let decoded = match text(&expected["encoding"]) {
        "hex" if !line.starts_with("0x") => const_hex::decode(line.trim_end()).ok(),
        "base64" => base64_simd::STANDARD.decode_to_vec(line.trim_end()).ok(),
        _ => None,
    };
    let length = decoded.ok_or_else(|| format!("{name} is not {}", expected["encoding"]))?.len();
    let expected =
        usize::try_from(number(&expected["decoded_length"])?).map_err(|error| error.to_string())?;
    // A secret's leading zero bytes are dropped.
    let shorter = path.ends_with("das_bls") && length < expected && length > 24;
    if length == expected || shorter { Ok(()) } else { Err(format!("{name} holds {length} bytes")) }
}

/// Every leaf of `recorded` that `ours` lacks or has with another value. Numbers and booleans may be texts.
fn differences(recorded: &Value, ours: &Value, overruled: &[(String, String)]) -> Vec<String> {
    fn leaves(value: &Value, path: &str, into: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    leaves(value, &path, into);
                }
            }
            Value::String(text) => drop(into.insert(path.to_owned(), text.clone())),
            // A list of nothing has no leaf of its own in some notations.
            other => drop(into.insert(path.to_owned(), other.to_string())),
        }
    }
    let (mut expected, mut found) = (BTreeMap::new(), BTreeMap::new());
    leaves(recorded, "", &mut expected);
    leaves(ours, "", &mut found);
    for (option, value) in overruled {
        expected.insert(option.clone(), value.clone());
    }
    let differs = |(option, value): (&String, &String)| match found.get(option) {
        Some(ours) if ours == value => None,
        Some(ours) => Some(format!("{option} is {ours:?}, recorded {value:?}")),
        None => Some(format!("{option} is missing")),
    };
    expected.iter().filter_map(differs).collect()
}

/// The directory that `keygen` was given.
fn directory(args: &[String]) -> PathBuf {
    let at = args.iter().position(|arg| arg == "--dir");
    at.and_then(|at| args.get(at + 1)).map(PathBuf::from).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> Result<i32, String> {
    value
        .as_i64()
        .and_then(|number| number.try_into().ok())
        .ok_or_else(|| format!("{value} is no small number"))
}

fn clip(text: &str) -> String {
    text.chars().take(400).collect()
}
