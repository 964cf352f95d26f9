use super::*;

#[test]
fn what_looks_like_a_secret_is_cut_out_of_text_and_nothing_else() {
    for (said, left) in [
        ("proxy http://jane:hunter2@proxy:3128/x", "proxy http://(redacted)@proxy:3128/x"),
        ("proxy http://jane:hun@ter2@proxy", "proxy http://(redacted)@proxy"),
        ("password=hunter2 and more", "password=(redacted) and more"),
        ("DB_PASSWORD: 'hunter2'", "DB_PASSWORD: '(redacted)'"),
        (r#"{"token":"abc","n":1}"#, r#"{"token":"(redacted)","n":1}"#),
        (r#"{\"client_secret\": \"abc\"}"#, r#"{\"client_secret\": \"(redacted)\"}"#),
        ("Authorization: Bearer 0123456789abcdef0123", "Authorization: (redacted) (redacted)"),
        ("-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\nafter", "(redacted)\nafter"),
        ("cut off -----BEGIN PRIVATE KEY-----\nMHc", "cut off (redacted)"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc,", "jwt (redacted),"),
    ] {
        assert_eq!(text(said), left);
    }
    for said in [
        "secret orders-tls is mounted",
        "broker 10.0.0.1:50052 token_bucket=3",
        "see https://example.org/a?b=c#d, mail ops@example.org",
        "-----BEGIN CERTIFICATE-----\nMHc\n-----END CERTIFICATE-----",
        "the bearer of bad news, basic facts",
        "gr\u{fc}\u{df}e, \u{1f980}",
        "",
    ] {
        assert_eq!(text(said), said);
    }
}

#[test]
fn text_of_any_kind_is_cut_at_the_borders_of_its_characters() {
    let pieces = [
        "\u{1f980}",
        "password=",
        "\u{130}",
        "://",
        "@",
        "eyJ",
        "Bearer ",
        "-----BEGIN ",
        "PRIVATE KEY-----",
        "\"",
        " ",
    ];
    for a in pieces {
        for b in pieces {
            for c in pieces {
                for d in pieces {
                    let _cut = text(&format!("{a}{b}{c}{d}"));
                }
            }
        }
    }
}

#[test]
fn of_a_pod_only_our_own_containers_are_told_whole() {
    let mut pod = json!({
        "metadata": {
            "name": "orders-0",
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{\"stringData\":1}",
                "team": "shop",
            },
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
        },
        "spec": {
            "containers": [
                {"name": "broker", "image": "b:1", "env": [
                    {"name": "FULMAR_NAME", "value": "orders-0"},
                    {"name": "HTTPS_PROXY", "value": "http://proxy"},
                    {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ]},
                {"name": "agent", "image": "a:1", "args": ["--key=hunter2"], "env": [{"name": "K", "value": "hunter2"}],
                 "livenessProbe": {"httpGet": {"httpHeaders": [{"name": "X", "value": "hunter2"}]}}},
            ],
            "volumes": [
                {"name": "tls", "secret": {"secretName": "orders-tls"}},
                {"name": "other", "csi": {"driver": "d", "volumeAttributes": {"k": "hunter2"}}},
            ],
        },
        "status": {"containerStatuses": [{"name": "agent", "ready": true}], "token": "hunter2"},
    });
    object(&mut pod);
    assert!(!pod.to_string().contains("hunter2"), "{pod}");
    let expected = json!({
        "metadata": {
            "name": "orders-0",
            "annotations": {"team": "shop"},
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": {
            "containers": [
                {"name": "broker", "image": "b:1", "env": [
                    {"name": "FULMAR_NAME", "value": "orders-0"},
                    {"name": "HTTPS_PROXY", "value": "(redacted)"},
                    {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ]},
                {"name": "agent", "image": "a:1", "args": "(redacted)", "env": "(redacted)", "livenessProbe": "(redacted)"},
            ],
            "volumes": [
                {"name": "tls", "secret": {"secretName": "orders-tls"}},
                {"name": "other", "csi": "(redacted)"},
            ],
        },
        "status": {"containerStatuses": [{"name": "agent", "ready": true}], "token": "(redacted)"},
    });
    assert_eq!(pod, expected);
}
