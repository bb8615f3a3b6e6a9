"""What is wrong with preference data: ours, or anyone's."""

from zephyr.audit.findings import Audit as Audit
from zephyr.audit.findings import Finding as Finding
from zephyr.audit.run import audit as audit
from zephyr.audit.show import describe as describe
from zephyr.audit.show import page as page
