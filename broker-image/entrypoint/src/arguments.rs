//! The command line.

use crate::role::Role;

/// What is printed when the command line is not understood.
pub const USAGE: &str = "\
usage: rocketmq start nameserver|controller|broker|proxy
       rocketmq probe nameserver|controller|broker|proxy [--live]
       rocketmq serve-probes nameserver|controller|broker|proxy
       rocketmq admin [MQADMIN ARGUMENTS…]

start         waits until the role can start, renders /etc/rocketmq into /run/rocketmq and becomes the role's Java process
probe         exits with 0 and a sentence when the role can serve; with --live it fails only when the process hangs
serve-probes  answers the same by HTTP, at /ready and /live of port 10900: start runs it beside the Java process
admin         runs the engine's mqadmin with this cluster's name servers filled in";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Verb {
    /// Print the usage.
    Help,
    /// Become a role's process.
    Start(Role),
    /// Judge a role's process.
    Probe {
        /// Whose.
        role: Role,
        /// Only whether it hangs.
        live: bool,
    },
    /// Answer the kubelet's probes of a role's process.
    ServeProbes(Role),
    /// Run the admin tool with these arguments.
    Admin(Vec<String>),
}

/// Why a command line was not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// Nothing was said.
    #[error("say what to do")]
    NoVerb,
    /// The verb is not one of ours.
    #[error("there is no command {0:?}")]
    UnknownVerb(String),
    /// A role was needed.
    #[error("say which role: nameserver, controller, broker or proxy")]
    NoRole,
    /// The role is not one of the engine's.
    #[error("there is no role {0:?}: say nameserver, controller, broker or proxy")]
    UnknownRole(String),
    /// Too much was said.
    #[error("{0:?} is not understood here")]
    Unexpected(String),
}

impl Verb {
    /// Understands the arguments after the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, ArgumentError> {
        let mut arguments = arguments.into_iter();
        let verb = arguments.next().ok_or(ArgumentError::NoVerb)?;
        match verb.as_str() {
            "help" | "--help" | "-h" => Ok(Self::Help),
            "admin" => Ok(Self::Admin(arguments.collect())),
            "start" | "serve-probes" => {
                let role = role(arguments.next())?;
                nothing_more(arguments)?;
                Ok(if verb == "start" { Self::Start(role) } else { Self::ServeProbes(role) })
            }
            "probe" => {
                let role = role(arguments.next())?;
                let live = match arguments.next().as_deref() {
                    None => false,
                    Some("--live") => true,
                    Some(other) => return Err(ArgumentError::Unexpected(other.to_owned())),
                };
                nothing_more(arguments)?;
                Ok(Self::Probe { role, live })
            }
            _ => Err(ArgumentError::UnknownVerb(verb)),
        }
    }
}

fn role(word: Option<String>) -> Result<Role, ArgumentError> {
    let word = word.ok_or(ArgumentError::NoRole)?;
    Role::from_name(&word).ok_or(ArgumentError::UnknownRole(word))
}

fn nothing_more(mut arguments: impl Iterator<Item = String>) -> Result<(), ArgumentError> {
    arguments.next().map_or(Ok(()), |more| Err(ArgumentError::Unexpected(more)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Verb, ArgumentError> {
        Verb::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn every_role_can_be_started_and_probed() {
        for role in Role::ALL {
            assert_eq!(parse(&format!("start {role}")), Ok(Verb::Start(role)));
            assert_eq!(parse(&format!("serve-probes {role}")), Ok(Verb::ServeProbes(role)));
            assert_eq!(parse(&format!("probe {role}")), Ok(Verb::Probe { role, live: false }));
            assert_eq!(parse(&format!("probe {role} --live")), Ok(Verb::Probe { role, live: true }));
        }
    }

    #[test]
    fn what_follows_admin_is_left_to_mqadmin() {
        let arguments = ["clusterList", "--help"].map(str::to_owned).to_vec();
        assert_eq!(parse("admin clusterList --help"), Ok(Verb::Admin(arguments)));
    }

    #[test]
    fn a_wrong_command_line_is_refused_with_a_sentence_that_says_what_to_write() {
        let cases = [
            ("", "say what to do"),
            ("stop", "there is no command \"stop\""),
            ("start", "say which role: nameserver, controller, broker or proxy"),
            ("start namesrv", "there is no role \"namesrv\": say nameserver, controller, broker or proxy"),
            ("start broker now", "\"now\" is not understood here"),
            ("probe broker --alive", "\"--alive\" is not understood here"),
            ("probe broker --live twice", "\"twice\" is not understood here"),
        ];
        for (line, sentence) in cases {
            assert_eq!(parse(line).map_err(|error| error.to_string()), Err(sentence.to_owned()), "{line}");
        }
    }
}
