//! Which Kubernetes to use. Pure: the environment is given as data.

use anyhow::{Result, bail};

use crate::state::Provider;

/// What the choice depends on.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The variable KUBECONFIG.
    pub kubeconfig: Option<String>,
    /// The variable CONTEXT.
    pub context: Option<String>,
    /// `--provider`.
    pub wanted: Option<Provider>,
}

/// The Kubernetes to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A cluster of the user's own.
    Users {
        /// Path of its kubeconfig.
        kubeconfig: String,
        /// Name of the context in it.
        context: String,
    },
    /// One that this tool brings up.
    Ours(Provider),
    /// One that this tool brought up: its name. We run inside its environment.
    Named(String),
}

impl Surroundings {
    /// Reads the environment; an empty variable counts as unset.
    pub fn read(var: impl Fn(&str) -> Option<String>, wanted: Option<Provider>) -> Surroundings {
        let set = |name: &str| var(name).filter(|value| !value.is_empty());
        Surroundings { kubeconfig: set("KUBECONFIG"), context: set("CONTEXT"), wanted }
    }
}

/// Finds the Kubernetes to use, in this order: the one that the user names, kind where it works, our own.
///
/// A kubeconfig without a context is an error: whoever has a kubeconfig of a real cluster lying in their environment must not find tests
/// run there. `ours` tells the name of the cluster that a kubeconfig of ours belongs to; `kind` is asked last, because it takes a moment.
pub fn find(
    around: &Surroundings,
    ours: impl Fn(&str) -> Option<String>,
    kind: impl FnOnce() -> bool,
) -> Result<Found> {
    match (&around.kubeconfig, &around.context) {
        (Some(kubeconfig), _) if ours(kubeconfig).is_some() => Ok(Found::Named(ours(kubeconfig).unwrap_or_default())),
        (Some(kubeconfig), Some(context)) => {
            Ok(Found::Users { kubeconfig: kubeconfig.clone(), context: context.clone() })
        }
        (Some(kubeconfig), None) => bail!(
            "KUBECONFIG is set ({kubeconfig}) and CONTEXT is not: set CONTEXT to the context to use there, or unset KUBECONFIG to have a cluster brought up"
        ),
        (None, Some(context)) => bail!(
            "CONTEXT is set ({context}) and KUBECONFIG is not: set KUBECONFIG to the file that has this context, or unset CONTEXT to have a cluster brought up"
        ),
        (None, None) => Ok(Found::Ours(match around.wanted {
            Some(provider) => provider,
            None if kind() => Provider::Kind,
            None => Provider::Own,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(kubeconfig: &str, context: &str) -> Surroundings {
        let vars = [("KUBECONFIG", kubeconfig), ("CONTEXT", context)];
        Surroundings::read(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()), None)
    }

    fn nobody(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_cluster_that_the_user_names_comes_first() {
        let found = find(&around("/home/me/config", "staging"), nobody, || true).unwrap();
        assert_eq!(found, Found::Users { kubeconfig: "/home/me/config".into(), context: "staging".into() });
    }

    #[test]
    fn a_kubeconfig_without_a_context_is_never_used_silently() {
        let error = find(&around("/home/me/config", ""), nobody, || true).unwrap_err().to_string();
        assert!(error.contains("CONTEXT is not") && error.contains("/home/me/config"), "{error}");
        assert!(find(&around("", "staging"), nobody, || true).is_err());
    }

    #[test]
    fn kind_comes_before_our_own_where_it_works() {
        assert_eq!(find(&around("", ""), nobody, || true).unwrap(), Found::Ours(Provider::Kind));
        assert_eq!(find(&around("", ""), nobody, || false).unwrap(), Found::Ours(Provider::Own));
    }

    #[test]
    fn a_provider_that_is_asked_for_is_taken_without_looking() {
        let asked = Surroundings { wanted: Some(Provider::Own), ..around("", "") };
        assert_eq!(find(&asked, nobody, || panic!("looked for kind")).unwrap(), Found::Ours(Provider::Own));
    }

    #[test]
    fn inside_our_own_environment_it_is_that_cluster_with_or_without_a_context() {
        let ours = |path: &str| (path == "/c/api/kubeconfig").then(|| "api".to_owned());
        assert_eq!(find(&around("/c/api/kubeconfig", ""), ours, || true).unwrap(), Found::Named("api".into()));
        assert_eq!(
            find(&around("/c/api/kubeconfig", "gantry-api"), ours, || true).unwrap(),
            Found::Named("api".into())
        );
    }
}
