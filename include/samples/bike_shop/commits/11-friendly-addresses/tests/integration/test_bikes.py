def test_bikes_are_for_sale(browser):
    bikes = browser.get("/bikes")
    for name in ("Bürgermeister", "Öresund", "Lastenesel"):
        assert name in bikes


def test_home_page_leads_to_the_bikes(browser):
    assert 'href="/bikes"' in browser.get("/")


def test_bike_has_a_page_with_a_friendly_address(browser):
    assert "Add to basket" in browser.get("/bikes/burgermeister")
