//! Replays recorded HTTP exchanges (vectors/README.md, "Transcripts") against running servers.
//!
//! A case is replayed as it was recorded: its steps in order, each on a connection of its own, with variables computed
//! before a request and captured from answers. What came back is compared with what was recorded: status, the recorded
//! headers, and the body, exactly; except that of a JSON-RPC error only code and presence count unless its text is one
//! that callers match on ([`NAMED_TEXTS`]).
//!
//! Where ours differs on purpose, a [`Departure`] names the case and the step and says what ours does instead, which is
//! checked in its place. Files recorded elsewhere have cases of other names: for those, a [`ByRule`] may tell from a step
//! itself that ours differs. Every case to which that happens is printed with the reason.

mod exchange;
mod pattern;
mod values;

use std::net::SocketAddr;

use serde_json::Value;

pub use exchange::{Answer, Request};
pub use values::{Keys, Rule, ValueError, Variables};

/// The beginnings of those error texts that the specification names. Others are the recorded server's own words.
pub const NAMED_TEXTS: [&str; 21] = [
    "the method ",
    "missing value for required argument ",
    "invalid argument ",
    "too many arguments, want at most ",
    "non-array args",
    "parse error",
    "invalid request",
    "empty batch",
    "notifications not supported",
    "subscription not found",
    "request not properly signed",
    "no signature verification method configured",
    "request expiry time (",
    "requested expiry time (",
    "too much time has elapsed since request was signed",
    "we have already seen this request",
    "can't start collecting new message: already ",
    "received different chunk data than previously",
    "unknown message(",
    "incomplete message(",
    "DA provider requests fallback to next writer",
];

/// A step in which ours does something else than what was recorded.
#[derive(Debug, Clone, Copy)]
pub struct Departure {
    /// The case's name.
    pub case: &'static str,
    /// The step, from 0.
    pub step: usize,
    /// Where the specification says so.
    pub reason: &'static str,
    /// What ours does.
    pub instead: Instead,
}

/// What a server does in place of what was recorded.
#[derive(Debug, Clone, Copy)]
pub enum Instead {
    /// It answers with this status and body (which may have variables and `${*}` in it).
    Answers(u16, &'static str),
    /// It refuses the call with an error of code -32000 whose text contains this.
    Refuses(&'static str),
    /// The step is left out, since it goes on from something that did not happen.
    LeftOut,
}

/// A step of a case that no [`Departure`] names.
#[derive(Debug, Clone, Copy)]
pub struct Unnamed<'a> {
    /// The case's server, by its name.
    pub server: &'a str,
    /// The request as recorded, but for its body.
    pub request: &'a Value,
    /// The request's body as it is sent.
    pub body: &'a str,
    /// The response as recorded.
    pub response: &'a Value,
}

/// Tells whether ours differs in a step, why, and what it does instead.
pub type ByRule<'a> = Box<dyn Fn(Unnamed<'_>) -> Option<(&'static str, Instead)> + 'a>;

/// Changes what is expected of a whole file: given the case's name and its recorded response, the response to expect.
pub type Adjust = fn(&str, &mut Value);

/// Everything that the cases of one file have in common.
pub struct Replay<'a> {
    /// The keys that sign requests.
    pub keys: Keys,
    /// Where ours differs.
    pub departures: &'a [Departure],
    /// Where it differs in cases that these do not name.
    pub by_rule: ByRule<'a>,
    /// What differs in every case.
    pub adjust: Adjust,
    /// Rules of variables beyond those of this module.
    pub rule: Option<&'a Rule<'a>>,
}

/// Why a step did not go as recorded, in words for people.
pub type Difference = String;

impl Replay<'_> {
    /// Replays one case against the server at `address`: what differs, with the step it differs in.
    #[allow(clippy::print_stdout, reason = "a test says where it went another way")]
    pub fn case(&self, case: &Value, address: SocketAddr) -> Result<(), Difference> {
        let name = case["name"].as_str().ok_or("a case without a name")?;
        let steps = case["steps"].as_array().ok_or("a case without steps")?;
        let mut variables = Variables::new(&self.keys, self.rule);
        let named = self.departures.iter().any(|one| one.case == name);
        let mut departed = false;
        for (index, step) in steps.iter().enumerate() {
            let at = |difference| format!("step {index}: {difference}");
            if step["at_the_beginning_of_a_second"] == true {
                values::wait_for_a_new_second();
            }
            let departure = self.departures.iter().find(|one| one.case == name && one.step == index);
            let mut instead = departure.map(|departure| departure.instead);
            if instead.is_some_and(|instead| matches!(instead, Instead::LeftOut)) {
                continue;
            }
            match variables.add(&step["vars"]) {
                Err(ValueError::Missing { .. }) if departed => continue,
                added => added.map_err(|error| at(error.to_string()))?,
            }
            let filled = variables.fill(step["request"]["body"].as_str().unwrap_or_default());
            let body = match filled {
                Ok(body) => body,
                // It goes on from something that did not happen.
                Err(ValueError::Missing { .. }) if departed => continue,
                Err(error) => return Err(at(error.to_string())),
            };
            if !named {
                let server = case["server"].as_str().unwrap_or_default();
                let (request, response) = (&step["request"], &step["response"]);
                if let Some((reason, other)) =
                    (self.by_rule)(Unnamed { server, request, body: &body, response })
                {
                    println!("{name}, step {index}: ours differs: {reason}");
                    departed = true;
                    instead = Some(other);
                }
            }
            self.step(name, step, instead, &body, &mut variables, address).map_err(at)?;
        }
        Ok(())
    }

    fn step(
        &self,
        name: &str,
        step: &Value,
        instead: Option<Instead>,
        body: &str,
        variables: &mut Variables<'_>,
        address: SocketAddr,
    ) -> Result<(), Difference> {
        let text = |error: ValueError| error.to_string();
        let request = Request::read(&step["request"], body, variables, address).map_err(text)?;
        let answer = request.send(address).map_err(|error| format!("no answer: {error}"))?;

        let mut expected = step["response"].clone();
        (self.adjust)(name, &mut expected);
        let capture = |variables: &mut Variables<'_>| -> Result<(), Difference> {
            for (name, pointer) in step["capture"].as_object().into_iter().flatten() {
                let pointer = pointer.as_str().unwrap_or_default();
                let found = serde_json::from_slice::<Value>(&answer.body)
                    .ok()
                    .and_then(|body| body.pointer(pointer)?.as_str().map(str::to_owned))
                    .ok_or_else(|| format!("nothing at {pointer} in {}", shown(&answer.body)))?;
                variables.set(name, found);
            }
            Ok(())
        };
        match instead {
            None => {
                capture(variables)?;
                variables.add(&expected["vars"]).map_err(text)?;
                compare(&answer, &expected, variables)
            }
            Some(Instead::Answers(status, body)) => {
                let instead = serde_json::json!({ "status": status, "body": body });
                compare(&answer, &instead, variables)
            }
            Some(Instead::Refuses(text)) => match rpc_error(&answer.body) {
                Some((-32000, message)) if message.contains(text) => Ok(()),
                _ => Err(format!("expected a refusal with {text:?}, got {}", shown(&answer.body))),
            },
            Some(Instead::LeftOut) => Ok(()),
        }
    }
}

fn compare(answer: &Answer, expected: &Value, variables: &Variables<'_>) -> Result<(), Difference> {
    let status = expected["status"].as_u64().ok_or("a response without a status")?;
    if u64::from(answer.status) != status {
        return Err(format!("status {} instead of {status}: {}", answer.status, shown(&answer.body)));
    }
    let mut other_words = false;
    if let Some(body) = expected["body"].as_str() {
        let (got, body) = (&answer.body, body.as_bytes());
        if !pattern::matches(body, got, variables) {
            other_words = differ_in_unnamed_words_only(body, got);
            if !other_words {
                return Err(format!("body {} instead of {}", shown(got), shown(body)));
            }
        }
    }
    for (name, value) in expected["headers"].as_object().into_iter().flatten() {
        let value = value.as_str().ok_or("a header that is no string")?;
        let got = answer.header(name);
        if got != Some(value) && !(other_words && name == "Content-Length") {
            return Err(format!("header {name} is {got:?} instead of {value:?}"));
        }
    }
    Ok(())
}

/// Are both errors of one code, the expected one with a text that nobody matches on?
fn differ_in_unnamed_words_only(expected: &[u8], got: &[u8]) -> bool {
    match (rpc_error(expected), rpc_error(got)) {
        (Some((expected, text)), Some((got, _))) => {
            expected == got && !NAMED_TEXTS.iter().any(|named| text.starts_with(named))
        }
        _ => false,
    }
}

fn rpc_error(body: &[u8]) -> Option<(i64, String)> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let error = body.get("error")?;
    Some((error["code"].as_i64()?, error["message"].as_str()?.to_owned()))
}

fn shown(body: &[u8]) -> String {
    const SHOWN: usize = 600;
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]);
    let more = if body.len() > SHOWN { format!("... ({} bytes)", body.len()) } else { String::new() };
    format!("{text:?}{more}")
}
