"""The examples that sleep's prompts show: what a draft derives is what its examples derive.

Three problems with shares, rates, comparisons, totals and what is left raise the share of
questions whose answer is found asleep over one (``bench/ablation.py`` prints by how much). A
table needs one of its own: shown problems in prose, a small model answers a table in prose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A context, and what a good draft on it looks like."""

    text: str
    reply: str


PROBLEMS: Final = (
    Example(
        text="Tom has 3 boxes with 8 pens each. He gives 5 pens to his sister. Pens cost $2 each.",
        reply="""```python
# given
boxes = 3
pens_per_box = 8
pens_given_to_sister = 5
price_per_pen = 2
# derived
total_pens = boxes * pens_per_box  # How many pens did Tom have at first?
pens_left = total_pens - pens_given_to_sister  # How many pens does Tom have left?
cost_of_all_pens = total_pens * price_per_pen  # How much did all the pens cost in dollars?
value_of_pens_left = pens_left * price_per_pen  # How much are the pens that are left \
worth in dollars?
```""",
    ),
    Example(
        text="Ana reads 20 pages a day. Her book has 300 pages, and she has read 40% of it. Ben "
        "reads twice as fast as Ana, and his book is 60 pages longer than hers.",
        reply="""```python
# given
ana_pages_per_day = 20
ana_book_pages = 300
ana_share_read = 0.40
extra_pages_of_ben = 60
# derived
ana_pages_read = ana_book_pages * ana_share_read  # How many pages has Ana read?
ana_pages_left = ana_book_pages - ana_pages_read  # How many pages does Ana have left to read?
ana_days_left = ana_pages_left / ana_pages_per_day  # How many days does Ana need to finish her \
book?
ana_days_in_all = ana_book_pages / ana_pages_per_day  # How many days does Ana need for her \
whole book?
ben_pages_per_day = 2 * ana_pages_per_day  # How many pages does Ben read a day?
ben_book_pages = ana_book_pages + extra_pages_of_ben  # How many pages does Ben's book have?
ben_days_in_all = ben_book_pages / ben_pages_per_day  # How many days does Ben need for his \
whole book?
pages_of_both_books = ana_book_pages + ben_book_pages  # How many pages do both books have \
together?
days_ben_is_faster = ana_days_in_all - ben_days_in_all  # How many days less than Ana does Ben \
need for a whole book?
```""",
    ),
    Example(
        text="A gardener works 6 hours a day, Monday to Friday, for $18 an hour. On Saturday he "
        "works half as many hours and is paid one and a half times as much an hour. He spends a "
        "quarter of what he earns on rent and $90 on food.",
        reply="""```python
# given
hours_per_weekday = 6
weekdays = 5
pay_per_hour = 18
food = 90
# derived
weekday_hours = hours_per_weekday * weekdays  # How many hours does he work from Monday to Friday?
daily_pay = hours_per_weekday * pay_per_hour  # How much does he earn on a weekday in dollars?
weekday_pay = weekday_hours * pay_per_hour  # How much does he earn from Monday to Friday in \
dollars?
saturday_hours = hours_per_weekday / 2  # How many hours does he work on Saturday?
saturday_pay_per_hour = pay_per_hour * 1.5  # How much is he paid an hour on Saturday in dollars?
saturday_pay = saturday_hours * saturday_pay_per_hour  # How much does he earn on Saturday in \
dollars?
weekly_hours = weekday_hours + saturday_hours  # How many hours does he work in a week?
weekly_pay = weekday_pay + saturday_pay  # How much does he earn in a week in dollars?
rent = weekly_pay / 4  # How much does he spend on rent in dollars?
total_spent = rent + food  # How much does he spend in all in dollars?
money_left = weekly_pay - total_spent  # How much money does he have left after rent and food \
in dollars?
```""",
    ),
)

TABLES: Final = (
    Example(
        text="""| in thousand dollars | 2021 | 2020 |
| Product sales | 1,250 | 1,000 |
| Services | 400 | 500 |
| Total revenue | 1,650 | 1,500 |

Revenue grew on the strength of product sales.""",
        reply="""```python
# given
product_sales_2021 = 1250
product_sales_2020 = 1000
services_2021 = 400
services_2020 = 500
total_revenue_2021 = 1650
total_revenue_2020 = 1500
# derived
change_in_product_sales = product_sales_2021 - product_sales_2020  # What was the change in \
product sales from 2020 to 2021, in thousand dollars?
percent_change_in_product_sales = (product_sales_2021 - product_sales_2020) / product_sales_2020 \
* 100  # What was the percentage change in product sales from 2020 to 2021?
change_in_services = services_2021 - services_2020  # What was the change in services from 2020 \
to 2021, in thousand dollars?
percent_change_in_services = (services_2021 - services_2020) / services_2020 * 100  # What was \
the percentage change in services from 2020 to 2021?
change_in_total_revenue = total_revenue_2021 - total_revenue_2020  # What was the change in \
total revenue from 2020 to 2021, in thousand dollars?
percent_change_in_total_revenue = (total_revenue_2021 - total_revenue_2020) / total_revenue_2020 \
* 100  # What was the percentage change in total revenue from 2020 to 2021?
average_total_revenue = (total_revenue_2021 + total_revenue_2020) / 2  # What was the average \
total revenue of 2020 and 2021, in thousand dollars?
product_share_2021 = product_sales_2021 / total_revenue_2021 * 100  # What share of total revenue \
were product sales in 2021, in percent?
product_to_services_2021 = product_sales_2021 / services_2021  # What was the ratio of product \
sales to services in 2021?
```""",
    ),
)

STORIES: Final = (
    Example(
        text="The old miller lost his mill in the flood. He walked to his brother's farm, because "
        "he had nowhere to sleep. The brother was glad and gave him soup.",
        reply="""Q: What did the miller lose? | A: his mill
Q: Why did the miller lose his mill? | A: there was a flood
Q: Where did the miller go? | A: to his brother's farm
Q: Why did he go to the farm? | A: he had nowhere to sleep
Q: How did the brother feel when the miller came? | A: glad
Q: What did the brother give him? | A: soup""",
    ),
)
