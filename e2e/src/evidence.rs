//! What a failed test leaves for a person, in a folder of logs with the name of its namespace; a second attempt has one of its own.

use std::fs;

use crate::brokers::Brokers;
use crate::installation;

/// More brokers than any test has.
const BROKERS_MAX: u32 = 5;

impl Brokers {
    /// Writes down the logs of all brokers and of the operator, and all objects, before the namespace goes. What cannot be had is
    /// left out: the test has failed for another reason.
    pub(crate) fn keep_evidence(&self) {
        for ordinal in 0..BROKERS_MAX {
            let pod = Self::pod(ordinal);
            for (previous, end) in [("--previous=false", ""), ("--previous=true", "-previous")] {
                let log =
                    self.environment.kubectl_once(&["--namespace", self.namespace, "logs", &pod, previous]);
                self.keep(&format!("{pod}{end}.log"), log.ok());
            }
        }
        for (kinds, name) in
            [("flc,flt,partitiontables,pods,pvc", "flc"), ("events", "events"), ("nodes", "nodes")]
        {
            let yaml = self.kubectl(&["get", kinds, "-o", "yaml"]);
            self.keep(&format!("{name}.yaml"), yaml.ok());
        }
        let operators = ["--selector=app.kubernetes.io/name", "--prefix", "--tail=-1"];
        let operators = [&["logs", "--namespace", installation::NAMESPACE], &operators[..]].concat();
        self.keep("operator.log", self.environment.kubectl(&operators).ok());
    }

    fn keep(&self, file: &str, text: Option<String>) {
        let attempt = std::env::var("NEXTEST_ATTEMPT").ok().filter(|attempt| attempt != "1");
        let name =
            attempt.map_or(self.namespace.to_owned(), |attempt| format!("{}-{attempt}", self.namespace));
        let folder = self.environment.logs.join(name);
        if let Some(text) = text {
            let _ = fs::create_dir_all(&folder);
            let _ = fs::write(folder.join(file), text);
        }
    }
}
