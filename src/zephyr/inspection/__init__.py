"""Looking at data: who has not seen the rows does not know what a model learns from them.

`read` gives the rows, whatever they are in; `specimens` says what there is to look at in a row of each kind; `strata` and `distributions`
take it in, a row at a time and in memory that does not grow with the data; `victims` shows what was left out, or would be, and why;
`case` what truecasing changed; `cards` makes of a row what is shown of it; `show` makes the page.
"""

from zephyr.inspection.found import Inspection as Inspection
from zephyr.inspection.run import inspect as inspect
from zephyr.inspection.show import describe as describe
from zephyr.inspection.show import page as page
