use super::*;

#[test]
fn origins_are_read_as_browsers_write_them() {
    assert_eq!("*".parse(), Ok(Origins::Any));
    for text in [
        "https://shop.example",
        "http://localhost:3000",
        "http://127.0.0.1:8080",
        "https://xn--bcher-kva.example",
        "capacitor://localhost",
        "chrome-extension://abcdefghijklmnop",
    ] {
        assert_eq!(text.parse(), Ok(Origins::List(vec![HeaderValue::from_static(text)])), "{text}");
    }
    let Ok(Origins::List(two)) = "https://a.example,http://b.example:81".parse() else { panic!("two") };
    assert_eq!(two, ["https://a.example", "http://b.example:81"]);
}

#[test]
fn what_no_browser_sends_is_refused_with_the_reason() {
    for (text, why) in [
        ("", "\"\" is no origin: it does not begin with a scheme"),
        ("shop.example", "does not begin with a scheme"),
        ("https://", "its host is none"),
        ("https://shop.example/", "without a path or a slash"),
        ("https://shop.example/app", "its host is none"),
        ("https://Shop.example", "lower case"),
        ("HTTPS://shop.example", "lower case"),
        ("https://*.example", "its host is none"),
        ("https://b\u{fc}cher.example", "its host is none"),
        ("https://a b", "its host is none"),
        ("https://user@shop.example", "its host is none"),
        ("https://shop.example:", "its port is none"),
        ("https://shop.example:0", "its port is none"),
        ("https://shop.example:65536", "its port is none"),
        ("https://shop.example:080", "its port is none"),
        ("https://shop.example:443", "browsers leave :443 out"),
        ("http://shop.example:80", "browsers leave :80 out"),
        ("http://[::1]:8080", "its host is none"),
        ("null", "any page can have itself called so"),
        ("https://a.example,*", "* stands alone"),
        ("https://a.example, https://b.example", "\" https://b.example\" is no origin"),
        (&format!("https://{}", "a".repeat(300)), "it is too long"),
        (&vec!["https://a.example"; 33].join(","), "at most 32 origins, these are 33"),
    ] {
        let said = text.parse::<Origins>().unwrap_err();
        assert!(said.contains(why), "{text}: {said}");
    }
}
