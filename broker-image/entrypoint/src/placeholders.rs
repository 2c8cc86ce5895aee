//! `${NAME}` in configuration files: what only the pod itself knows.

use crate::settings::Settings;

/// A file asks for something that this pod does not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the placeholder ${{{name}}} has no value here: {variable} is not set")]
pub struct Missing {
    name: &'static str,
    variable: &'static str,
}

/// Replaces the placeholders that are ours. Others stay: logback has its own of the same form.
pub fn fill(text: &str, settings: &Settings) -> Result<String, Missing> {
    let address = settings.pod_ip.map(|address| address.to_string());
    let known = [
        ("HOST", "GANTRY_HOST", settings.host.as_deref()),
        ("ORDINAL", "POD_NAME with an ordinal", settings.ordinal()),
        ("POD_NAME", "POD_NAME", settings.pod_name.as_deref()),
        ("POD_IP", "POD_IP", address.as_deref()),
    ];
    let mut filled = text.to_owned();
    for (name, variable, value) in known {
        let placeholder = format!("${{{name}}}");
        if filled.contains(&placeholder) {
            filled = filled.replace(&placeholder, value.ok_or(Missing { name, variable })?);
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker() -> Settings {
        Settings {
            pod_name: Some("shop-broker-0-2".to_owned()),
            pod_ip: Some([10, 0, 0, 7].into()),
            host: Some("shop-broker-0-2.shop-broker.ns.svc.cluster.local".to_owned()),
            ..Settings::default()
        }
    }

    #[test]
    fn placeholders_are_replaced_wherever_they_stand() {
        let cases = [
            (
                "brokerIP1=${HOST}\nbrokerIP2=${HOST}",
                "brokerIP1=shop-broker-0-2.shop-broker.ns.svc.cluster.local\nbrokerIP2=shop-broker-0-2.shop-broker.ns.svc.cluster.local",
            ),
            ("controllerDLegerSelfId=n${ORDINAL}", "controllerDLegerSelfId=n2"),
            (
                "{\"localServeAddr\": \"${POD_IP}\", \"proxyName\": \"${POD_NAME}\"}",
                "{\"localServeAddr\": \"10.0.0.7\", \"proxyName\": \"shop-broker-0-2\"}",
            ),
            (
                "<pattern>${LOG_PATTERN:-%m%n}</pattern> $HOST {HOST}",
                "<pattern>${LOG_PATTERN:-%m%n}</pattern> $HOST {HOST}",
            ),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(fill(text, &broker()), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn a_placeholder_without_a_value_is_an_error_that_names_it() {
        let proxy = Settings { host: None, ..broker() };
        let error = fill("brokerIP1=${HOST}", &proxy).unwrap_err();
        assert_eq!(error.to_string(), "the placeholder ${HOST} has no value here: GANTRY_HOST is not set");
        let proxy = Settings { pod_name: Some("shop-proxy-7d9f-x2x1z".to_owned()), ..broker() };
        let error = fill("n${ORDINAL}", &proxy).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the placeholder ${ORDINAL} has no value here: POD_NAME with an ordinal is not set"
        );
    }
}
