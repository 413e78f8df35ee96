def test_empty_basket_leads_to_the_bikes(browser):
    assert 'href="/bikes"' in browser.get("/basket")


def test_basket_is_kept_from_page_to_page(browser):
    browser.post("/basket/add", bike="oresund")
    browser.get("/repairs")
    assert "Öresund" in browser.get("/basket")


def test_two_of_one_bike_cost_twice_as_much(browser):
    one = total(browser.post("/basket/add", bike="senora"))
    two = total(browser.post("/basket/add", bike="senora"))
    assert two == 2 * one


def test_removed_bike_is_gone(browser):
    browser.post("/basket/add", bike="kolibri")
    assert "Your basket is empty" in browser.post("/basket/remove", bike="kolibri")


def total(page):
    """Return the total of a basket's page, in cents."""
    amount = page.split('class="total"')[1].split("€ ")[1].split("<")[0]
    return int(amount.replace(",", "").replace(".", ""))
