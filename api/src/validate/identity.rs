//! Users, Credentials, Sessions, and the ClusterConfig, which says how Sessions begin.

use std::time::{Duration as Time, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

use super::{Report, access, values};
use crate::{
    core::{
        authenticator, cluster_config, credential, device, session, session::spec::State, session::status, user,
        user::spec::Type,
    },
    meta::Duration,
};

const CREDENTIAL_LIFE_MAX: Time = Time::from_secs(730 * 24 * 60 * 60);
const AUTHENTICATIONS_MAX: u32 = 1_000_000;

pub(super) fn user(spec: &user::Spec, report: &mut Report) {
    if spec.r#type == Type::Unknown as i32 {
        report.add("spec.type", "missing: HUMAN or WORKLOAD");
    }
    for (index, group) in spec.groups.iter().enumerate() {
        report.plain_name(&format!("spec.groups[{index}]"), group);
    }
    if !spec.email.is_empty() {
        if spec.r#type == Type::Workload as i32 {
            report.add("spec.email", "only HUMAN Users have an email");
        }
        if !is_email(&spec.email) {
            report.add("spec.email", "not an email address of at most 150 lower-case ASCII characters");
        }
    }
    if let Some(info) = &spec.info {
        for (name, text) in [
            ("locale", &info.locale),
            ("phone", &info.phone),
            ("firstName", &info.first_name),
            ("middleName", &info.middle_name),
            ("lastName", &info.last_name),
            ("website", &info.website),
            ("country", &info.country),
        ] {
            report.length(&format!("spec.info.{name}"), text, 256);
        }
    }
    if let Some(session) = &spec.session {
        durations(
            "spec.session",
            [
                session.client_duration,
                session.clientless_duration,
                session.access_token_duration,
                session.refresh_token_duration,
            ],
            report,
        );
        defaults("spec.session", session.max_per_user, 10_000, session.default_state, report);
    }
    if let Some(list) = &spec.authorization {
        access::authorization("spec.authorization", &list.policies, &list.inline_policies, report);
    }
    values::attrs("spec.attrs", spec.attrs.as_ref(), report);
}

pub(super) fn credential(spec: &credential::Spec, now: SystemTime, report: &mut Report) {
    if spec.r#type == credential::spec::Type::Unknown as i32 {
        report.add("spec.type", "missing: AUTH_TOKEN, OAUTH2 or ACCESS_TOKEN");
    }
    report.plain_name("spec.user", &spec.user);
    if spec.max_authentications > AUTHENTICATIONS_MAX {
        report.add(
            "spec.maxAuthentications",
            format!("{} is too many; at most {AUTHENTICATIONS_MAX}", spec.max_authentications),
        );
    }
    if spec.auto_delete && spec.max_authentications == 0 {
        report.add("spec.autoDelete", "needs `maxAuthentications`: the Credential is deleted when they are used up");
    }
    if spec.r#type == credential::spec::Type::Oauth2 as i32 && spec.session_type == status::Type::Client as i32 {
        report.add("spec.sessionType", "an OAUTH2 Credential makes CLIENTLESS Sessions only");
    }
    if let Some(time) = &spec.expires_at {
        future("spec.expiresAt", time, now, Some(CREDENTIAL_LIFE_MAX), report);
    }
    if let Some(list) = &spec.authorization {
        access::authorization("spec.authorization", &list.policies, &list.inline_policies, report);
    }
}

pub(super) fn session(spec: &session::Spec, now: SystemTime, report: &mut Report) {
    if spec.state == State::Unknown as i32 {
        report.add("spec.state", "missing: ACTIVE, PENDING or REJECTED");
    }
    match &spec.expires_at {
        Some(time) => future("spec.expiresAt", time, now, None, report),
        None => report.add("spec.expiresAt", "missing"),
    }
    if let Some(list) = &spec.authorization {
        access::authorization("spec.authorization", &list.policies, &list.inline_policies, report);
    }
}

pub(super) fn device(spec: &device::Spec, report: &mut Report) {
    if spec.state == device::spec::State::Unknown as i32 {
        report.add("spec.state", "missing: ACTIVE, PENDING or REJECTED");
    }
    if let Some(list) = &spec.authorization {
        access::authorization("spec.authorization", &list.policies, &list.inline_policies, report);
    }
}

pub(super) fn authenticator(spec: &authenticator::Spec, report: &mut Report) {
    if spec.state == authenticator::spec::State::Unknown as i32 {
        report.add("spec.state", "missing: ACTIVE, PENDING or REJECTED");
    }
    report.length("spec.displayName", &spec.display_name, 120);
    if !spec.display_name.is_ascii() {
        report.add("spec.displayName", "only ASCII characters are allowed");
    }
}

pub(super) fn cluster_config(spec: &cluster_config::Spec, report: &mut Report) {
    if let Some(list) = &spec.authorization {
        access::authorization("spec.authorization", &list.policies, &list.inline_policies, report);
    }
    let Some(session) = &spec.session else { return };
    if let Some(human) = &session.human {
        let all = [
            human.client_duration,
            human.clientless_duration,
            human.access_token_duration,
            human.refresh_token_duration,
        ];
        durations("spec.session.human", all, report);
        defaults("spec.session.human", human.max_per_user, 1000, human.default_state, report);
    }
    if let Some(workload) = &session.workload {
        let all = [
            workload.client_duration,
            workload.clientless_duration,
            workload.access_token_duration,
            workload.refresh_token_duration,
        ];
        durations("spec.session.workload", all, report);
        defaults("spec.session.workload", workload.max_per_user, 1000, workload.default_state, report);
    }
}

fn durations(path: &str, durations: [Option<Duration>; 4], report: &mut Report) {
    let names = ["clientDuration", "clientlessDuration", "accessTokenDuration", "refreshTokenDuration"];
    for (name, duration) in names.iter().zip(&durations) {
        values::check_duration(&format!("{path}.{name}"), duration.as_ref(), report);
    }
}

fn defaults(path: &str, per_user: u32, per_user_max: u32, state: i32, report: &mut Report) {
    if per_user > per_user_max {
        report.add(&format!("{path}.maxPerUser"), format!("{per_user} is too many; at most {per_user_max}"));
    }
    if state == State::Rejected as i32 {
        report.add(&format!("{path}.defaultState"), "new Sessions can be ACTIVE or PENDING");
    }
}

fn future(path: &str, time: &Timestamp, now: SystemTime, ahead_max: Option<Time>, report: &mut Report) {
    // Before 1970 nothing of this is served.
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let from_now =
        Time::new(u64::try_from(time.seconds).unwrap_or_default(), u32::try_from(time.nanos).unwrap_or_default())
            .checked_sub(now)
            .filter(|ahead| !ahead.is_zero());
    match (from_now, ahead_max) {
        (None, _) => report.add(path, "is not in the future"),
        (Some(ahead), Some(max)) if ahead > max => {
            report.add(path, format!("is more than {} days ahead", max.as_secs() / 86_400));
        }
        _ => {}
    }
}

/// A dot-atom at a host name (RFC 5321 §4.1.2 without quoting), lower case.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let atom = |atom: &str| {
        !atom.is_empty()
            && atom.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+/=?^_`{|}~-".contains(&byte)
            })
    };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 150 && local.len() <= 64 && local.split('.').all(atom) && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn email_addresses() {
        for text in ["a@b.io", "first.last+tag@mail.example.com", "o'neil@x.io", "root@localhost"] {
            assert!(is_email(text), "{text}");
        }
        let long = format!("{}@x.io", "a".repeat(65));
        for text in
            ["", "@", "a@", "@b.io", "a b@c.io", "A@b.io", "a@b..io", ".a@b.io", "a@-b.io", "a@b@c.io", "ä@b.io", &long]
        {
            assert!(!is_email(text), "{text}");
        }
    }
}
