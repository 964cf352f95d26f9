use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::*;

fn authority() -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    Issuer::new(params, key)
}

fn write(dir: &Path, name: &str) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&leaf_key, &issuer).unwrap();
    std::fs::write(dir.join("ca.crt"), ca.pem()).unwrap();
    std::fs::write(dir.join("tls.crt"), leaf.pem()).unwrap();
    std::fs::write(dir.join("tls.key"), leaf_key.serialize_pem()).unwrap();
    std::fs::write(dir.join("gossip.key"), "0f".repeat(32)).unwrap();
}

#[test]
fn certificates_are_told_apart_by_name() {
    let issuer = authority();
    let key = KeyPair::generate().unwrap();
    let broker =
        CertificateParams::new(vec![BROKER_NAME.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    assert!(carries_name(broker.der(), BROKER_NAME));
    assert!(!carries_name(broker.der(), OPERATOR_NAME));
}

#[test]
fn a_bad_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), BROKER_NAME);
    Tls::load(dir.path()).unwrap();
    for (file, content, what) in [
        ("gossip.key", "zz".repeat(32), "64 hexadecimal digits"),
        ("gossip.key", "0f".to_owned(), "has 2 characters"),
        ("tls.key", "hello".to_owned(), "no private key"),
        ("ca.crt", String::new(), "no certificate"),
    ] {
        write(dir.path(), BROKER_NAME);
        std::fs::write(dir.path().join(file), content).unwrap();
        let error = Tls::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(what), "{error}");
    }
    write(dir.path(), "somebody.else");
    assert!(Tls::load(dir.path()).unwrap_err().to_string().contains(BROKER_NAME));
    std::fs::remove_file(dir.path().join("tls.crt")).unwrap();
    assert!(Tls::load(dir.path()).unwrap_err().to_string().contains("tls.crt"));
}

#[test]
fn keys_are_replaced_while_running_and_the_gossip_key_before_still_opens() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), BROKER_NAME);
    let tls = Tls::load(dir.path()).unwrap();
    assert!(!tls.reload().unwrap());
    std::fs::write(dir.path().join("gossip.key"), "a0".repeat(32)).unwrap();
    assert!(tls.reload().unwrap());
    assert_eq!(tls.gossip().current, [0xa0; 32]);
    assert_eq!(tls.gossip().previous, Some([0x0f; 32]));
    std::fs::write(dir.path().join("gossip.key"), "bad").unwrap();
    tls.reload().unwrap_err();
    assert_eq!(tls.gossip().current, [0xa0; 32]);
}

#[test]
fn certificates_in_use_are_called_what_the_operator_calls_them() {
    // The operator's tests have the same line.
    let files = [b"ca".to_vec(), b"tls".to_vec(), b"key".to_vec(), b"gossip".to_vec()];
    assert_eq!(worn(&files), "e27a4301fa1cb9c14ae0f98aa2681e4a");
}
